/** Embedding lookup on the CPU, for comparison. */
import { TOKEN_FROM_SAMPLER, draftOf } from "../batch.ts";

/** out [tokens, width] = rows of table [vocab, width]. */
export function embeddingReference(
  table: Float64Array,
  vocab: number,
  width: number,
  ids: readonly number[],
  sequences: readonly number[],
  lastTokens: ArrayLike<number>,
  lastDrafts: ArrayLike<number>,
  draftStride: number,
): Float64Array {
  const out = new Float64Array(ids.length * width);
  for (const [t, id] of ids.entries()) {
    const draft = draftOf(id);
    const slot = sequences[t] ?? 0;
    const known =
      id === TOKEN_FROM_SAMPLER ? (lastTokens[slot] ?? 0) : draft === undefined ? id : (lastDrafts[draft * draftStride + slot] ?? 0);
    const row = known < vocab ? known : 0;
    out.set(table.subarray(row * width, (row + 1) * width), t * width);
  }
  return out;
}
