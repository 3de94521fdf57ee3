/** Verification on the CPU, for comparison. */

export interface VerifiedSequence {
  readonly slot: number;
  /** Of its first row. */
  readonly position: number;
  /** Chosen after each of its rows. */
  readonly chosen: readonly number[];
  /** At least one fewer. */
  readonly drafts: readonly number[];
}

/** How many drafts, from the first, are what was chosen after the row before them. */
export function rightDrafts({ chosen, drafts }: Pick<VerifiedSequence, "chosen" | "drafts">): number {
  let right = 0;
  while (right < chosen.length - 1 && drafts[right] === chosen[right]) right++;
  return right;
}
