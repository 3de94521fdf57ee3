/** Cache rows and rotation in f64, for comparison. */
import type { MlaShape } from "../mla.ts";
import { rmsNormReference } from "../matvec/reference.ts";

/** Rotates the adjacent pairs of `values` by `position`'s row of a rope table with `values.length / 2` pairs. */
export function rotateReference(values: ArrayLike<number>, table: ArrayLike<number>, position: number): Float64Array {
  const out = new Float64Array(values.length);
  for (let i = 0; i < values.length; i += 2) {
    const [a = 0, b = 0] = [values[i], values[i + 1]];
    const [cos = 0, sin = 0] = [table[position * values.length + i], table[position * values.length + i + 1]];
    out[i] = a * cos - b * sin;
    out[i + 1] = a * sin + b * cos;
  }
  return out;
}

/** x [tokens, kvLoraRank + qkRopeHeadDim] to what each token's row of the cache holds. */
export function kvWriteReference(
  { kvLoraRank, qkRopeHeadDim }: MlaShape,
  x: Float64Array,
  gamma: Float64Array,
  epsilon: number,
  table: ArrayLike<number>,
  positions: readonly number[],
): Float64Array {
  const width = kvLoraRank + qkRopeHeadDim;
  const out = new Float64Array(positions.length * width);
  for (const [t, position] of positions.entries()) {
    const row = x.subarray(t * width, (t + 1) * width);
    out.set(rmsNormReference(row.slice(0, kvLoraRank), gamma, 1, kvLoraRank, epsilon), t * width);
    out.set(rotateReference(row.slice(kvLoraRank), table, position), t * width + kvLoraRank);
  }
  return out;
}
