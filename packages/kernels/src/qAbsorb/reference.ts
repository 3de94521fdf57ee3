/** Absorbed queries in f64, for comparison. */
import { rotateReference } from "../kvWrite/reference.ts";
import type { MlaShape } from "../mla.ts";

/** q [tokens, heads, nope + rope], w [heads * (nope + value), latent] to [tokens, heads, latent + rope]. */
export function qAbsorbReference(
  { nHeads, qkNopeHeadDim, qkRopeHeadDim, vHeadDim, kvLoraRank }: MlaShape,
  q: Float64Array,
  w: Float64Array,
  table: ArrayLike<number>,
  positions: readonly number[],
): Float64Array {
  const inWidth = qkNopeHeadDim + qkRopeHeadDim;
  const outWidth = kvLoraRank + qkRopeHeadDim;
  const out = new Float64Array(positions.length * nHeads * outWidth);
  for (const [t, position] of positions.entries())
    for (let h = 0; h < nHeads; h++) {
      const head = q.subarray((t * nHeads + h) * inWidth, (t * nHeads + h + 1) * inWidth);
      const base = (t * nHeads + h) * outWidth;
      for (let d = 0; d < qkNopeHeadDim; d++) {
        const row = (h * (qkNopeHeadDim + vHeadDim) + d) * kvLoraRank;
        for (let c = 0; c < kvLoraRank; c++) out[base + c] = (out[base + c] ?? 0) + (head[d] ?? 0) * (w[row + c] ?? 0);
      }
      out.set(rotateReference(head.subarray(qkNopeHeadDim), table, position), base + kvLoraRank);
    }
  return out;
}
