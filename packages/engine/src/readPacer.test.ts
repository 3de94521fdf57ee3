import { describe, expect, it } from "vitest";
import { ReadPacer } from "./readPacer.ts";

/** Runs a device whose steps take `stepMs` and whose readbacks take `readMs`, one batch behind. */
function settle(stepMs: number, readMs: number): number {
  const pacer = new ReadPacer();
  for (let i = 0; i < 40; i++) {
    const { steps } = pacer;
    pacer.record(steps, Math.max(steps * stepMs, readMs));
  }
  return pacer.steps;
}

describe("ReadPacer", () => {
  it("reads every token by itself when a step takes longer than a readback", () => {
    expect(settle(30, 11)).toBe(1);
    expect(settle(5, 0.3)).toBe(1);
  });

  it("grows until a batch takes as long as its readback", () => {
    expect(settle(5, 11)).toBe(2);
    expect(settle(1, 11)).toBeGreaterThanOrEqual(8);
    expect(settle(0.1, 11)).toBe(16);
  });

  it("does not grow beyond what flows", () => {
    expect(settle(1, 200)).toBe(1);
  });
});
