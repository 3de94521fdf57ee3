/** The step's inputs as the kernels read them (shaders/lib/batch.wgsl): one buffer, written once a step. */

/** Stands for the token last sampled for the sequence, so that the next step can be submitted before that token is known here. */
export const TOKEN_FROM_SAMPLER = 0xffffffff;
/** Most tokens drafted at once: with the one before them they are what a step for few tokens takes. */
export const MAX_DRAFTS = 3;
const FIRST_DRAFT = 0xfffffffe;

/** Stands for draft number `index`, from 0, of those last drafted for the sequence. */
export function tokenFromDraft(index: number): number {
  return FIRST_DRAFT - index;
}

/** The number of the draft that an id stands for. */
export function draftOf(id: number): number | undefined {
  const index = FIRST_DRAFT - id;
  return index >= 0 && index < MAX_DRAFTS ? index : undefined;
}
/** What stands for places that the last verified step left and that only the device knows (`embedding` puts them in): */
const FROM_RING = 0xf0000000;
const FROM_FIRST = 0x80000000;
const FROM_LAST = 0xc0000000;
const MOVES = 0x80000000;
const OFFSET = 0x3fffffff;

/** the token that its output number `output` chose, */
export function tokenFromRing(output: number): number {
  return FROM_RING + output;
}

/** the position `offset` behind the sequence's first row in it, */
export function positionFromFirst(offset: number): number {
  return FROM_FIRST + offset;
}

/** or behind the last of its rows that stands, */
export function positionFromLast(offset: number): number {
  return FROM_LAST + offset;
}

/** and an output row that is as many rows behind `first`, its sequence's first row in this step, as drafts were right. */
export function rowAfterRight(first: number): number {
  return MOVES + first;
}

/** A position, or what stands for one, as it is counted from position `first` on. */
export function positionWithin(position: number, first: number): number {
  if (position < FROM_FIRST) return position - first;
  const from = position < FROM_LAST ? FROM_FIRST : FROM_LAST;
  // Modulo 2^30, as the device adds it up.
  return from + ((position - from - first) & OFFSET);
}

/** In place of the token that is known to follow an output row: one is chosen. */
const CHOSEN = 0xffffffff;

/** The buffer, and how many tokens and outputs it has room for. */
export interface Step {
  readonly batch: GPUBuffer;
  readonly maxTokens: number;
}

export interface BatchRows {
  /** Token ids, TOKEN_FROM_SAMPLER, tokenFromDraft() or tokenFromRing(). */
  readonly tokens: readonly number[];
  /** Place in the sequence, from 0; or positionFromFirst(), positionFromLast(). */
  readonly positions: readonly number[];
  /** Slot of the sequence. */
  readonly sequences: readonly number[];
  /** Rows of the batch whose logits are wanted; or rowAfterRight(). */
  readonly outputRows: readonly number[];
  /** Of each of these: the token that is known to follow it, which stands for one that is chosen. None by default. */
  readonly given?: readonly (number | undefined)[];
  /** Of a draft: the rows of the step before that its rows go on from. */
  readonly sources?: readonly number[];
  /** Row of the ring of sampled tokens that this step writes. */
  readonly ringRow?: number;
  /** Row of the ring that tokenFromRing() is about. */
  readonly verifiedRow?: number;
}

export function batchBytes(maxTokens: number): number {
  return (4 + 6 * maxTokens) * 4;
}

/** @throws RangeError if there are more rows than `maxTokens`, or the columns' lengths differ. */
export function encodeBatch(rows: BatchRows, maxTokens: number): Uint32Array<ArrayBuffer> {
  const { tokens, positions, sequences, outputRows, given = [], sources = [], ringRow = 0, verifiedRow = 0 } = rows;
  if (tokens.length > maxTokens || outputRows.length > maxTokens)
    throw new RangeError(
      `Cannot encode a batch of ${tokens.length} tokens and ${outputRows.length} outputs, expected at most ${maxTokens}`,
    );
  if (positions.length !== tokens.length || sequences.length !== tokens.length)
    throw new RangeError(`Cannot encode a batch: ${tokens.length} tokens, ${positions.length} positions, ${sequences.length} sequences`);
  const words = new Uint32Array(4 + 6 * maxTokens);
  words[0] = tokens.length;
  words[1] = outputRows.length;
  words[2] = ringRow;
  words[3] = verifiedRow;
  for (const [column, values] of [
    tokens,
    positions,
    sequences,
    outputRows,
    outputRows.map((_, output) => given[output] ?? CHOSEN),
    sources,
  ].entries())
    words.set(values, 4 + column * maxTokens);
  return words;
}
