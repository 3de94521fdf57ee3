import { describe, expect, it } from "vitest";
import { ClusterError } from "../errors.ts";
import { type Message, decodeFrame, encodeFrame } from "./frame.ts";
import { Tensor } from "./tensor.ts";

const MESSAGE: Message = {
  kind: "call",
  call: 7,
  target: 3,
  method: "forward",
  body: { entries: [{ tokens: [1, 2, 3], hidden: new Tensor(Float32Array.of(1, 2, 3, 4), [2, 2]) }], seed: 2n ** 63n, text: "ü" },
};

function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

describe("a frame", () => {
  it("brings a message with tensors and bigints", () => {
    const { body, ...rest } = decodeFrame(encodeFrame(MESSAGE));
    expect(rest).toEqual({ kind: "call", call: 7, target: 3, method: "forward" });
    const { entries, seed, text } = body as { entries: { tokens: number[]; hidden: Tensor }[]; seed: bigint; text: string };
    expect([seed, text]).toEqual([2n ** 63n, "ü"]);
    expect(entries[0]?.tokens).toEqual([1, 2, 3]);
    expect(entries[0]?.hidden.shape).toEqual([2, 2]);
    expect([...(entries[0]?.hidden.data ?? [])]).toEqual([1, 2, 3, 4]);
  });

  it("is read at an odd place too", () => {
    const frame = encodeFrame(MESSAGE);
    const odd = new Uint8Array(frame.byteLength + 3).subarray(3);
    odd.set(frame);
    expect(JSON.stringify(decodeFrame(odd).body, (_, value: unknown) => (typeof value === "bigint" ? String(value) : value))).toContain(
      '"data"',
    );
  });

  it("of another version, or too short, or too long for its header, is refused by field", () => {
    const refused = (change: (frame: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer>): string | undefined => {
      try {
        decodeFrame(change(encodeFrame(MESSAGE)));
      } catch (error) {
        if (error instanceof ClusterError && error.code === "bad-frame") return error.field;
        throw error;
      }
      return "taken";
    };
    const set = (at: number, value: number) => (frame: Uint8Array<ArrayBuffer>) => {
      frame[at] = value;
      return frame;
    };
    expect(refused(set(3, 2))).toBe("version");
    expect(refused(set(0, 0))).toBe("frame");
    expect(refused(set(4, 9))).toBe("kind");
    expect(refused(set(19, 0x7f))).toBe("header");
    expect(refused((frame) => frame.slice(0, 10))).toBe("frame");
    expect(refused((frame) => frame.slice(0, -8))).toBe("tensors[0]");
    expect(refused((frame) => Uint8Array.from([...frame, ...new Uint8Array(8)]))).toBe("frame");
  });

  it("is refused with a typed error, or read, whatever bytes are changed in it", () => {
    const next = random(1);
    let refused = 0;
    for (let round = 0; round < 20_000; round++) {
      const frame = encodeFrame(MESSAGE);
      for (let change = Math.floor(next() * 4); change >= 0; change--)
        frame[Math.floor(next() * frame.byteLength)] = Math.floor(next() * 256);
      const cut = next() < 0.2 ? frame.slice(0, Math.floor(next() * frame.byteLength)) : frame;
      try {
        decodeFrame(cut);
      } catch (error) {
        if (!(error instanceof ClusterError)) throw error;
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(5000);
  });

  it("does not say how large its tensors are beyond what it has", () => {
    const frame = encodeFrame({ ...MESSAGE, body: [new Tensor(new Uint8Array(1))] });
    const text = new TextDecoder().decode(frame);
    const changed = new TextEncoder().encode(text.replace('["u8",1]', '["f8",1]'));
    expect(() => decodeFrame(changed)).toThrow("tensors[0] is f8");
    const deep = encodeFrame({ ...MESSAGE, body: JSON.parse(`${"[".repeat(50)}{}${"]".repeat(50)}`) as unknown });
    expect(() => decodeFrame(deep)).toThrow("nested too deeply");
  });
});
