/** Embedding lookup on the CPU, for comparison. */
import { TOKEN_FROM_DRAFT, TOKEN_FROM_SAMPLER } from "../batch.ts";

/** out [tokens, width] = rows of table [vocab, width]. */
export function embeddingReference(
  table: Float64Array,
  vocab: number,
  width: number,
  ids: readonly number[],
  sequences: readonly number[],
  lastTokens: ArrayLike<number>,
  lastDrafts: ArrayLike<number>,
): Float64Array {
  const out = new Float64Array(ids.length * width);
  for (const [t, id] of ids.entries()) {
    const latest = id === TOKEN_FROM_SAMPLER ? lastTokens : id === TOKEN_FROM_DRAFT ? lastDrafts : undefined;
    const known = latest ? (latest[sequences[t] ?? 0] ?? 0) : id;
    const row = known < vocab ? known : 0;
    out.set(table.subarray(row * width, (row + 1) * width), t * width);
  }
  return out;
}
