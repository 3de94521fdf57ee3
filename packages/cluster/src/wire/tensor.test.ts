import { describe, expect, it } from "vitest";
import { Tensor, f16ToF32, f32ToF16, readTensor, wireBytes, writeTensor } from "./tensor.ts";

function halves(values: readonly number[]): Uint16Array {
  const out = new Uint16Array(values.length);
  f32ToF16(Float32Array.from(values), out);
  return out;
}

function throughWire(tensor: Tensor): Tensor {
  const frame = new Uint8Array(wireBytes(tensor.dtype, tensor.shape));
  writeTensor(tensor, frame, 0);
  return readTensor(tensor.dtype, tensor.shape, frame, 0);
}

describe("f16", () => {
  it("gives every half back, but infinities, which become the largest", () => {
    const all = Uint16Array.from({ length: 65536 }, (_, half) => half);
    const values = new Float32Array(all.length);
    f16ToF32(all, values);
    const back = new Uint16Array(all.length);
    f32ToF16(values, back);
    for (const [half, other] of back.entries()) {
      const magnitude = half & 0x7fff;
      if (magnitude > 0x7c00) expect(other & 0x7fff).toBe(0x7e00);
      else if (magnitude === 0x7c00) expect(other & 0x7fff).toBe(0x7bff);
      else if (other !== half) throw new Error(`${half} became ${other}`);
    }
  });

  it("rounds to the nearest, ties to even, subnormals too", () => {
    expect([...halves([1, -2, 65504, 65519, 1e9, 2 ** -24, 2 ** -25, 2 ** -25 * 1.5, 2 ** -14])]).toEqual([
      0x3c00, 0xc000, 0x7bff, 0x7bff, 0x7bff, 1, 0, 1, 0x0400,
    ]);
    // Between 1 and the next half, 1 + 2^-10: the middle goes to the even one.
    expect([...halves([1 + 2 ** -11, 1 + 3 * 2 ** -11, 1 + 2 ** -11 + 2 ** -20])]).toEqual([0x3c00, 0x3c02, 0x3c01]);
  });
});

describe("Tensor", () => {
  it("travels as a view where nothing is converted", () => {
    const frame = new Uint8Array(24);
    writeTensor(new Tensor(Float32Array.of(1, 2, 3), [3]), frame, 8);
    const { data } = readTensor("f32", [3], frame, 8);
    expect(data.buffer).toBe(frame.buffer);
    expect([...data]).toEqual([1, 2, 3]);
  });

  it("travels as FP8 with an error of at most a sixteenth of the value, or of the smallest step of its group", () => {
    const values = Float32Array.from({ length: 3 * 200 }, (_, i) => Math.sin(i * 1.7) * 10 ** ((i % 5) - 2));
    const { data } = throughWire(new Tensor(values, [3, 200], "fp8"));
    for (let row = 0; row < 3; row++)
      for (let column = 0; column < 200; column++) {
        const group = values.subarray(row * 200 + (column < 128 ? 0 : 128), row * 200 + (column < 128 ? 128 : 200));
        const scale = Math.max(...group.map(Math.abs)) / 448;
        const value = values[row * 200 + column] ?? 0;
        const error = Math.abs((data[row * 200 + column] ?? Number.NaN) - value);
        expect(error).toBeLessThanOrEqual(Math.max(Math.abs(value) / 16, scale * 2 ** -9) * (1 + 1e-5));
      }
    expect(wireBytes("fp8", [3, 200])).toBe(600 + 3 * 2 * 4);
  });

  it("keeps rows of zeros and empty ones", () => {
    expect([...throughWire(new Tensor(new Float32Array(130), [1, 130], "fp8")).data].every((value) => value === 0)).toBe(true);
    for (const dtype of ["f32", "f16", "fp8"] as const)
      expect(throughWire(new Tensor(new Float32Array(0), [0, 7], dtype)).data.length).toBe(0);
  });

  it("refuses a shape that is not its data's", () => {
    expect(() => new Tensor(new Float32Array(6), [4, 2])).toThrow("Cannot send 6 values as [4, 2]");
    expect(() => new Tensor(new Int32Array(6), [6], "f16")).toThrow("Cannot send i32 values as f16");
  });
});
