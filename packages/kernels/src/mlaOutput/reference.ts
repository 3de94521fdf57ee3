/** Values from attended latents in f64, for comparison. */
import type { MlaShape } from "../mla.ts";

/** o [tokens, heads, latent], w [heads * (nope + value), latent] to [tokens, heads, value]. */
export function mlaOutputReference(
  { nHeads, qkNopeHeadDim, vHeadDim, kvLoraRank }: MlaShape,
  o: Float64Array,
  w: Float64Array,
  tokens: number,
): Float64Array {
  const out = new Float64Array(tokens * nHeads * vHeadDim);
  for (let t = 0; t < tokens; t++)
    for (let h = 0; h < nHeads; h++)
      for (let j = 0; j < vHeadDim; j++) {
        const row = (h * (qkNopeHeadDim + vHeadDim) + qkNopeHeadDim + j) * kvLoraRank;
        let sum = 0;
        for (let c = 0; c < kvLoraRank; c++) sum += (o[(t * nHeads + h) * kvLoraRank + c] ?? 0) * (w[row + c] ?? 0);
        out[(t * nHeads + h) * vHeadDim + j] = sum;
      }
  return out;
}
