/** Random weight matrices in every stored format, with the values that they decode to. */
import { type GpuContext, e4m3ToNumber, numberToE4m3 } from "@shoal/gpu";
import { CHUNK, SCALE_BLOCK, type WeightFormat, type WeightMatrix, type WeightPart, roundUp } from "../weights.ts";
import type { Random } from "./random.ts";

export interface TestMatrix {
  readonly matrix: WeightMatrix;
  /** What the stored bytes mean, [rows, cols]. */
  readonly values: Float64Array;
}

export interface TestMatrixOptions {
  readonly rows: number;
  readonly cols: number;
  readonly format: WeightFormat;
  /** Split into parts of at most so many rows (a multiple of 128). */
  readonly partRows?: number;
}

/** Weights about normal(0, 1 / sqrt(cols)); fp8 scales vary by block, so that a wrong block shows. */
export function randomMatrix(gpu: GpuContext, random: Random, { rows, cols, format, partRows = rows }: TestMatrixOptions): TestMatrix {
  const stride = roundUp(cols, CHUNK);
  const scaleColumns = Math.ceil(cols / SCALE_BLOCK);
  const scales = Float32Array.from(
    { length: Math.ceil(rows / SCALE_BLOCK) * scaleColumns },
    () => (0.5 + random.uniform()) / (64 * Math.sqrt(cols)),
  );
  const values = new Float64Array(rows * cols);
  const stored = new Uint8Array(rows * stride * { fp8: 1, bf16: 2, f16: 2, f32: 4 }[format]);
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < cols; c++) {
      const scale = format === "fp8" ? (scales[Math.floor(r / SCALE_BLOCK) * scaleColumns + Math.floor(c / SCALE_BLOCK)] ?? 0) : 1;
      const wanted = random.normal() * (format === "fp8" ? 64 : 1 / Math.sqrt(cols));
      values[r * cols + c] = storeWeight(stored, r * stride + c, wanted, format) * scale;
    }
  const rowBytes = stored.byteLength / rows;
  const parts: WeightPart[] = [];
  for (let rowStart = 0; rowStart < rows; rowStart += partRows) {
    const count = Math.min(partRows, rows - rowStart);
    const bytes = stored.subarray(rowStart * rowBytes, (rowStart + count) * rowBytes);
    parts.push({ buffer: gpu.upload("test weights", bytes, "weights"), rowStart, rows: count });
  }
  const matrix = { format, rows, cols, stride, parts };
  return { matrix: format === "fp8" ? { ...matrix, scales: gpu.upload("test scales", scales, "weights") } : matrix, values };
}

/** Writes one value at an element index; returns what it decodes to. */
export function storeWeight(bytes: Uint8Array, index: number, value: number, format: WeightFormat): number {
  const view = new DataView(bytes.buffer);
  switch (format) {
    case "fp8": {
      const code = numberToE4m3(value);
      bytes[index] = code;
      return e4m3ToNumber(code);
    }
    case "bf16": {
      const scratch = new DataView(new ArrayBuffer(4));
      scratch.setFloat32(0, value);
      const upper = scratch.getUint16(0);
      view.setUint16(index * 2, upper, true);
      scratch.setUint32(0, upper << 16);
      return scratch.getFloat32(0);
    }
    case "f16": {
      const code = numberToF16(value);
      view.setUint16(index * 2, code, true);
      return f16ToNumber(code);
    }
    case "f32":
      view.setFloat32(index * 4, value, true);
      return Math.fround(value);
  }
}

/** Truncating conversion of normal numbers; test weights are never subnormal or huge. */
export function numberToF16(value: number): number {
  const scratch = new DataView(new ArrayBuffer(4));
  scratch.setFloat32(0, value);
  const bits = scratch.getUint32(0);
  const exponent = ((bits >>> 23) & 0xff) - 112;
  if (exponent <= 0) return (bits >>> 16) & 0x8000;
  return ((bits >>> 16) & 0x8000) | (exponent << 10) | ((bits >>> 13) & 0x3ff);
}

export function f16ToNumber(code: number): number {
  const exponent = (code >> 10) & 31;
  const mantissa = code & 0x3ff;
  const magnitude = exponent === 0 ? mantissa * 2 ** -24 : (1 + mantissa / 1024) * 2 ** (exponent - 15);
  return code & 0x8000 ? -magnitude : magnitude;
}
