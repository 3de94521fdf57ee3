/**
 * Arrays as they travel. Hidden states and partial sums may go as f16 or as FP8 with a scale for each 128 values of a row, which is a quarter of f32's bytes; they come out as
 * f32 again. All other types arrive as views into the frame.
 */
import { e4m3ToNumber, numberToE4m3 } from "@shoal/gpu";
import { ClusterError } from "../errors.ts";

export type WireArray = Float32Array<ArrayBuffer> | Int32Array<ArrayBuffer> | Uint32Array<ArrayBuffer> | Uint8Array<ArrayBuffer>;
export type WireDtype = "f32" | "f16" | "fp8" | "i32" | "u32" | "u8";
/** How activations travel. f32 for exactness; the others round. */
export type ActivationFormat = "f32" | "f16" | "fp8";

export const WIRE_DTYPES: readonly WireDtype[] = ["f32", "f16", "fp8", "i32", "u32", "u8"];
const FP8_GROUP = 128;
const E4M3_MAX = 448;
/** Below it a group is all zeros as far as f32 is concerned: as `act_quant` of DeepSeek's inference/kernel.py, which divides by it. */
const LEAST_AMAX = 1e-30;

/** A typed array with its shape and the format in which it travels. Rows are the last dimension. */
export class Tensor<A extends WireArray = WireArray> {
  readonly data: A;
  readonly shape: readonly number[];
  readonly dtype: WireDtype;

  /** @throws RangeError if the shape is not the data's, or f16 or fp8 is asked for what is not f32 */
  constructor(data: A, shape: readonly number[] = [data.length], dtype: WireDtype = dtypeOf(data)) {
    const elements = shape.reduce((product, size) => product * size, 1);
    if (elements !== data.length) throw new RangeError(`Cannot send ${data.length} values as [${shape.join(", ")}]`);
    if (dtype !== dtypeOf(data) && !(data instanceof Float32Array && (dtype === "f16" || dtype === "fp8")))
      throw new RangeError(`Cannot send ${dtypeOf(data)} values as ${dtype}`);
    this.data = data;
    this.shape = shape;
    this.dtype = dtype;
  }
}

function dtypeOf(data: WireArray): WireDtype {
  if (data instanceof Float32Array) return "f32";
  if (data instanceof Int32Array) return "i32";
  return data instanceof Uint32Array ? "u32" : "u8";
}

/** Bytes of a tensor in a frame. @returns NaN for a shape that is none */
export function wireBytes(dtype: WireDtype, shape: readonly number[]): number {
  const elements = shape.reduce((product, size) => product * size, 1);
  const columns = shape.at(-1) ?? 0;
  switch (dtype) {
    case "u8":
      return elements;
    case "f16":
      return elements * 2;
    case "fp8":
      return elements + (columns === 0 ? 0 : (elements / columns) * Math.ceil(columns / FP8_GROUP) * 4);
    case "f32":
    case "i32":
    case "u32":
      return elements * 4;
  }
}

/** Writes a tensor at a multiple of 8. */
export function writeTensor({ data, shape, dtype }: Tensor, out: Uint8Array<ArrayBuffer>, offset: number): void {
  if (dtype === "f16" && data instanceof Float32Array) {
    const halves = new Uint16Array(out.buffer, out.byteOffset + offset, data.length);
    f32ToF16(data, halves);
  } else if (dtype === "fp8" && data instanceof Float32Array) {
    const columns = shape.at(-1) ?? 0;
    const groups = Math.ceil(columns / FP8_GROUP);
    const rows = columns === 0 ? 0 : data.length / columns;
    const scales = new Float32Array(out.buffer, out.byteOffset + offset, rows * groups);
    quantizeRows(data, columns, scales, out.subarray(offset + scales.byteLength, offset + scales.byteLength + data.length));
  } else out.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), offset);
}

/** Reads what `writeTensor` wrote; a view wherever it need not be converted. `frame` starts at a multiple of 8 of its buffer. */
export function readTensor(dtype: WireDtype, shape: readonly number[], frame: Uint8Array<ArrayBuffer>, offset: number): Tensor {
  const elements = shape.reduce((product, size) => product * size, 1);
  const at = frame.byteOffset + offset;
  switch (dtype) {
    case "u8":
      return new Tensor(new Uint8Array(frame.buffer, at, elements), shape);
    case "f32":
      return new Tensor(new Float32Array(frame.buffer, at, elements), shape);
    case "i32":
      return new Tensor(new Int32Array(frame.buffer, at, elements), shape);
    case "u32":
      return new Tensor(new Uint32Array(frame.buffer, at, elements), shape);
    case "f16": {
      const values = new Float32Array(elements);
      f16ToF32(new Uint16Array(frame.buffer, at, elements), values);
      return new Tensor(values, shape);
    }
    case "fp8": {
      const columns = shape.at(-1) ?? 0;
      const rows = columns === 0 ? 0 : elements / columns;
      const scales = new Float32Array(frame.buffer, at, rows * Math.ceil(columns / FP8_GROUP));
      const codes = new Uint8Array(frame.buffer, at + scales.byteLength, elements);
      return new Tensor(dequantizeRows(codes, columns, scales), shape);
    }
  }
}

function quantizeRows(values: Float32Array, columns: number, scales: Float32Array, codes: Uint8Array): void {
  let group = 0;
  for (let row = 0; row < values.length; row += columns)
    for (let start = row; start < row + columns; start += FP8_GROUP, group++) {
      const end = Math.min(start + FP8_GROUP, row + columns);
      let amax = LEAST_AMAX;
      for (let i = start; i < end; i++) amax = Math.max(amax, Math.abs(values[i] ?? 0));
      const scale = Math.fround(amax / E4M3_MAX);
      scales[group] = scale;
      for (let i = start; i < end; i++) codes[i] = numberToE4m3((values[i] ?? 0) / scale);
    }
}

function dequantizeRows(codes: Uint8Array, columns: number, scales: Float32Array): Float32Array<ArrayBuffer> {
  const table = Float32Array.from({ length: 256 }, (_, code) => e4m3ToNumber(code));
  const values = new Float32Array(codes.length);
  let group = 0;
  for (let row = 0; row < codes.length; row += columns)
    for (let start = row; start < row + columns; start += FP8_GROUP, group++) {
      const scale = scales[group] ?? 0;
      const end = Math.min(start + FP8_GROUP, row + columns);
      for (let i = start; i < end; i++) values[i] = (table[codes[i] ?? 0] ?? 0) * scale;
    }
  return values;
}

/** Nearest half, ties to even; what is too large becomes the largest, not infinity, which would spoil every later layer. NaN stays. */
export function f32ToF16(values: Float32Array, halves: Uint16Array): void {
  const float = new Float32Array(1);
  const word = new Uint32Array(float.buffer);
  for (let i = 0; i < values.length; i++) {
    const value = values[i] ?? 0;
    float[0] = value;
    const bits = word[0] ?? 0;
    const sign = (bits >>> 16) & 0x8000;
    const magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) halves[i] = sign | 0x7e00;
    else if (magnitude >= 0x477ff000) halves[i] = sign | 0x7bff;
    else if (magnitude < 0x38800000) {
      // Subnormal: f32's own addition rounds it, at the place where halves end.
      float[0] = Math.abs(value) + 0.5;
      halves[i] = sign | ((word[0] ?? 0) - 0x3f000000);
    } else {
      const odd = (magnitude >>> 13) & 1;
      halves[i] = sign | ((magnitude - 0x38000000 + 0xfff + odd) >>> 13);
    }
  }
}

export function f16ToF32(halves: Uint16Array, values: Float32Array): void {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < halves.length; i++) {
    const half = halves[i] ?? 0;
    const sign = (half & 0x8000) << 16;
    const magnitude = half & 0x7fff;
    if (magnitude >= 0x7c00) words[i] = sign | 0x7f800000 | ((magnitude & 0x3ff) << 13);
    else if (magnitude >= 0x400) words[i] = sign | ((magnitude << 13) + 0x38000000);
    else {
      values[i] = magnitude * 2 ** -24;
      words[i] = (words[i] ?? 0) | sign;
    }
  }
}

interface ArrayOf {
  readonly f32: Float32Array<ArrayBuffer>;
  readonly i32: Int32Array<ArrayBuffer>;
  readonly u32: Uint32Array<ArrayBuffer>;
  readonly u8: Uint8Array<ArrayBuffer>;
}

/** @throws ClusterError bad-frame if the tensor has another type or shape; -1 stands for any size */
export function expectTensor<D extends keyof ArrayOf>(
  field: string,
  { data, shape: actual }: Tensor,
  dtype: D,
  shape: readonly number[],
): ArrayOf[D] {
  const fits = actual.length === shape.length && shape.every((size, index) => size < 0 || size === actual[index]);
  if (dtypeOf(data) !== dtype || !fits)
    throw new ClusterError(
      "bad-frame",
      `Cannot use '${field}': it is ${dtypeOf(data)} [${actual.join(", ")}], expected ${dtype} [${shape.map((size) => (size < 0 ? "any" : size)).join(", ")}]`,
      { field },
    );
  return data as ArrayOf[D];
}
