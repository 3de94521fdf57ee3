/** Activation quantization with every step rounded to f32, as PyTorch computes it. */
import { e4m3ToNumber, numberToE4m3 } from "@shoal/gpu";

export interface QuantizedRows {
  readonly codes: Uint8Array;
  /** [rows, ceil(cols / 128)]. */
  readonly scales: Float32Array;
  /** [rows, cols]. */
  readonly values: Float32Array;
}

export function actQuantReference(x: ArrayLike<number>, rows: number, cols: number, ue8m0 = false): QuantizedRows {
  const groups = Math.ceil(cols / 128);
  const codes = new Uint8Array(rows * cols);
  const scales = new Float32Array(rows * groups);
  const values = new Float32Array(rows * cols);
  for (let r = 0; r < rows; r++)
    for (let g = 0; g < groups; g++) {
      const end = Math.min(cols, (g + 1) * 128);
      let amax = Math.fround(1e-4);
      for (let c = g * 128; c < end; c++) amax = Math.max(amax, Math.abs(x[r * cols + c] ?? 0));
      const exact = Math.fround(amax / 448);
      const scale = ue8m0 ? 2 ** ceilLog2(exact) : exact;
      scales[r * groups + g] = scale;
      for (let c = g * 128; c < end; c++) {
        const code = numberToE4m3(Math.fround((x[r * cols + c] ?? 0) / scale));
        codes[r * cols + c] = code;
        values[r * cols + c] = e4m3ToNumber(code) * scale;
      }
    }
  return { codes, scales, values };
}

/** Exact for f32 values, unlike Math.ceil(Math.log2(value)). */
function ceilLog2(value: number): number {
  let power = Math.floor(Math.log2(value)) - 1;
  while (2 ** power < value) power++;
  return power;
}
