/** Attention over one shared key-value head in f64, for comparison. */
import type { MlaShape } from "../mla.ts";

/**
 * q [tokens, heads, latent + rope] to [tokens, heads, latent]. `rowOf` gives the element of `cache` where the row of position p for token t starts;
 * token t attends to positions 0 .. positions[t].
 */
export function mlaAttentionReference(
  { nHeads, qkRopeHeadDim, kvLoraRank }: MlaShape,
  q: Float64Array,
  cache: ArrayLike<number>,
  rowOf: (token: number, position: number) => number,
  positions: readonly number[],
  softmaxScale: number,
): Float64Array {
  const width = kvLoraRank + qkRopeHeadDim;
  const out = new Float64Array(positions.length * nHeads * kvLoraRank);
  for (const [t, last] of positions.entries())
    for (let h = 0; h < nHeads; h++) {
      const query = (t * nHeads + h) * width;
      const scores = new Float64Array(last + 1);
      for (let p = 0; p <= last; p++) {
        const row = rowOf(t, p);
        let score = 0;
        for (let c = 0; c < width; c++) score += (q[query + c] ?? 0) * (cache[row + c] ?? 0);
        scores[p] = score * softmaxScale;
      }
      const largest = scores.reduce((a, b) => Math.max(a, b));
      const weights = scores.map((score) => Math.exp(score - largest));
      const total = weights.reduce((a, b) => a + b);
      const base = (t * nHeads + h) * kvLoraRank;
      for (let p = 0; p <= last; p++) {
        const row = rowOf(t, p);
        const weight = (weights[p] ?? 0) / total;
        for (let c = 0; c < kvLoraRank; c++) out[base + c] = (out[base + c] ?? 0) + weight * (cache[row + c] ?? 0);
      }
    }
  return out;
}

/** The merge of partial results [tokens, splits, heads, record], as mla/output.wgsl begins with: [tokens, heads, latent]. */
export function mergeReference({ nHeads, kvLoraRank }: MlaShape, partial: ArrayLike<number>, tokens: number, splits: number): Float64Array {
  const record = partial.length / (tokens * splits * nHeads);
  const out = new Float64Array(tokens * nHeads * kvLoraRank);
  for (let t = 0; t < tokens; t++)
    for (let h = 0; h < nHeads; h++) {
      const records = Array.from({ length: splits }, (_, s) => ((t * splits + s) * nHeads + h + 1) * record);
      const largest = Math.max(...records.map((end) => partial[end - 4] ?? Number.NaN));
      const factors = records.map((end) => Math.exp((partial[end - 4] ?? Number.NaN) - largest));
      const total = records.reduce((sum, end, s) => sum + (partial[end - 3] ?? 0) * (factors[s] ?? 0), 0);
      for (let c = 0; c < kvLoraRank; c++) {
        let value = 0;
        for (const [s, end] of records.entries())
          if ((partial[end - 3] ?? 0) > 0) value += (partial[end - record + c] ?? 0) * (factors[s] ?? 0);
        out[(t * nHeads + h) * kvLoraRank + c] = value / total;
      }
    }
  return out;
}
