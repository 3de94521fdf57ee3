/** Small tensors as f32. */
import { FORMAT_BYTES, type WeightFormat } from "@shoal/kernels";
import { ModelError } from "../errors.ts";

/** @throws ModelError named unsupported for FP8, which has scales. */
export function toFloats(bytes: Uint8Array<ArrayBuffer>, format: WeightFormat): Float32Array<ArrayBuffer> {
  const { buffer, byteOffset, byteLength } = bytes;
  const view = new DataView(buffer, byteOffset, byteLength);
  const count = byteLength / FORMAT_BYTES[format];
  if (format === "f32") return Float32Array.from({ length: count }, (_, i) => view.getFloat32(i * 4, true));
  if (format === "bf16") {
    const out = new Float32Array(count);
    const bits = new Uint32Array(out.buffer);
    for (let i = 0; i < count; i++) bits[i] = view.getUint16(i * 2, true) << 16;
    return out;
  }
  if (format === "f16") return Float32Array.from({ length: count }, (_, i) => f16ToNumber(view.getUint16(i * 2, true)));
  throw new ModelError("unsupported", "Cannot read FP8 values as a vector");
}

function f16ToNumber(code: number): number {
  const exponent = (code >> 10) & 31;
  const mantissa = code & 0x3ff;
  const sign = code & 0x8000 ? -1 : 1;
  if (exponent === 31) return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (exponent === 0 ? mantissa * 2 ** -24 : (1 + mantissa / 1024) * 2 ** (exponent - 15));
}
