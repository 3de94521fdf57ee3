/** Cache rows to bytes and back on the CPU, for comparison: kvRow.ts says how they lie. Rows of elements are kvRowElements() apart. */
import { e4m3ToNumber, numberToE4m3 } from "@shoal/gpu";
import { type KvFormat, type KvRowShape, fp8KvRow, kvRowBytes, kvRowElements } from "../kvRow.ts";
import { f16ToNumber, numberToF16 } from "../testing/matrices.ts";
import { SCALE_BLOCK } from "../weights.ts";

/** Least amax that a scale is made of. */
const LEAST_AMAX = Math.fround(1e-30);

/** f16 is cut off, as testing/matrices.ts does; fp8 is what kvWrite() stores of such f32 values, bit for bit. */
export function encodeKvRows(shape: KvRowShape, format: KvFormat, elements: Float32Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  if (format === "f32") return new Uint8Array(elements.slice().buffer);
  if (format === "f16") return new Uint8Array(Uint16Array.from(elements, numberToF16).buffer);
  const { kvLoraRank, qkRopeHeadDim } = shape;
  const width = kvRowElements(shape);
  const row = fp8KvRow(shape);
  const rows = elements.length / width;
  const bytes = new Uint8Array(rows * row.bytes);
  const view = new DataView(bytes.buffer);
  for (let r = 0; r < rows; r++) {
    const values = elements.subarray(r * width, r * width + kvLoraRank + qkRopeHeadDim);
    for (let group = 0; group * SCALE_BLOCK < kvLoraRank; group++) {
      const columns = values.subarray(group * SCALE_BLOCK, Math.min(kvLoraRank, (group + 1) * SCALE_BLOCK));
      const scale = Math.fround(columns.reduce((most, value) => Math.max(most, Math.abs(value)), LEAST_AMAX) / 448);
      view.setFloat32(r * row.bytes + row.scales + group * 4, scale, true);
      for (const [c, value] of columns.entries()) bytes[r * row.bytes + group * SCALE_BLOCK + c] = numberToE4m3(Math.fround(value / scale));
    }
    for (const [i, value] of values.subarray(kvLoraRank).entries()) view.setUint16(r * row.bytes + row.keys + i * 2, bf16(value), true);
  }
  return bytes;
}

export function decodeKvRows(shape: KvRowShape, format: KvFormat, bytes: Uint8Array<ArrayBuffer>): Float32Array<ArrayBuffer> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const width = kvRowElements(shape);
  const rowBytes = kvRowBytes(shape, format);
  const rows = bytes.byteLength / rowBytes;
  const elements = new Float32Array(rows * width);
  if (format !== "fp8") {
    for (let i = 0; i < elements.length; i++)
      elements[i] = format === "f32" ? view.getFloat32(i * 4, true) : f16ToNumber(view.getUint16(i * 2, true));
    return elements;
  }
  const { kvLoraRank, qkRopeHeadDim } = shape;
  const { scales, keys } = fp8KvRow(shape);
  const scratch = new DataView(new ArrayBuffer(4));
  for (let r = 0; r < rows; r++) {
    const at = r * rowBytes;
    for (let c = 0; c < kvLoraRank; c++)
      elements[r * width + c] = e4m3ToNumber(bytes[at + c] ?? 0x7f) * view.getFloat32(at + scales + Math.floor(c / SCALE_BLOCK) * 4, true);
    for (let i = 0; i < qkRopeHeadDim; i++) {
      scratch.setUint16(0, view.getUint16(at + keys + i * 2, true));
      elements[r * width + kvLoraRank + i] = scratch.getFloat32(0);
    }
  }
  return elements;
}

/** To nearest, ties to even. */
function bf16(value: number): number {
  const scratch = new DataView(new ArrayBuffer(4));
  scratch.setFloat32(0, value);
  const bits = scratch.getUint32(0);
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}
