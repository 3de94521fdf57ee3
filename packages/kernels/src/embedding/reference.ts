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

/** Where a sequence's last verified step left it. */
export interface Settled {
  /** Of the first row that was verified. */
  readonly position: number;
  /** Drafts that were right. */
  readonly right: number;
}

/** A position as the host knows it: itself, or behind the first row that was verified, or behind the last that stands. */
export interface HostPosition {
  readonly behind: "start" | "first" | "last";
  readonly offset: number;
  /** What it is counted from. */
  readonly first: number;
}

export function positionReference({ behind, offset, first }: HostPosition, { position, right }: Settled): number {
  return offset - first + (behind === "start" ? 0 : behind === "first" ? position : position + right);
}
