import { describe, expect, it } from "vitest";
import { errorToRecord, recordToError } from "./errorTransfer.ts";

class PickyError extends Error {
  override readonly name = "PickyError";
  readonly code = "bad";
  readonly needed = 12;
  readonly seed = 5n;
  readonly device = { not: "cloned" };
}

/** There and back, as `postMessage` does it. */
const crossed = (error: unknown): Error => recordToError(structuredClone(errorToRecord(error)));

describe("errors between threads", () => {
  it("keep name, message, stack, fields and cause", () => {
    const error = new PickyError("Cannot do it", { cause: new RangeError("too far") });
    const copy = crossed(error);
    expect(copy).toBeInstanceOf(Error);
    expect(copy).toMatchObject({ name: "PickyError", message: "Cannot do it", code: "bad", needed: 12, seed: 5n, stack: error.stack });
    expect(copy.cause).toMatchObject({ name: "RangeError", message: "too far" });
    expect(copy).not.toHaveProperty("device");
  });

  it("survive cycles, error-like objects and thrown nonsense", () => {
    const loop = new Error("loop");
    loop.cause = loop;
    expect(crossed(loop).message).toBe("loop");
    expect(crossed({ name: "GPUError", message: "lost" })).toMatchObject({ name: "GPUError", message: "lost" });
    expect(crossed(42).message).toBe("42");
    expect(crossed(new DOMException("stop", "AbortError")).name).toBe("AbortError");
  });
});
