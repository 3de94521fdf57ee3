/**
 * Which tokens the next step computes. Every running stream gets its token first; what is left of the budget goes to prompts, the oldest first, in chunks. So a long prompt
 * never holds up streams for longer than a step, and streams never starve a prompt while there are fewer of them than the budget. Pure.
 *
 * Prompts and decodes in one step: Agrawal et al., Sarathi-Serve, arXiv 2403.02310, section 4.
 */
import type { ActiveRequest, Placement } from "./activeRequest.ts";

export interface ScheduledEntry {
  readonly request: ActiveRequest;
  readonly placement: Placement;
  /** Ids of a prompt's next chunk, a stream's last token where that is known here, or else the token that the last step chose. */
  readonly tokens: readonly number[] | "sampled";
  /** A prompt's chunk before its last: no token is chosen after it. */
  readonly quiet: boolean;
  /** A drafted token follows, and one is chosen after each. */
  readonly verify: boolean;
}

export interface ScheduledStep {
  readonly entries: readonly ScheduledEntry[];
  /** KV blocks that the sequences need beyond those that they have. */
  readonly blocks: number;
}

export interface ScheduleLimits {
  /** Most tokens in a step. */
  readonly stepTokens: number;
  readonly blockSize: number;
  /** Steps wait for one another, so every token is known here, and drafts are verified. */
  readonly drafting?: { readonly contextTokens: number };
}

export interface Placed {
  readonly request: ActiveRequest;
  readonly placement: Placement;
}

/** @param running in the order of their admission; at most as many as the budget has tokens */
export function schedule(running: readonly Placed[], { stepTokens, blockSize, drafting }: ScheduleLimits): ScheduledStep {
  const entries: ScheduledEntry[] = [];
  let budget = stepTokens;
  for (const placed of running) {
    const { request, placement } = placed;
    if (placement.length < placement.prefillTokens || placement.chosen >= request.mostTokens) continue;
    const verify =
      drafting !== undefined &&
      placement.draftIndex !== undefined &&
      placement.length + 2 <= drafting.contextTokens &&
      placement.chosen + 2 <= request.mostTokens;
    // What the stage sampled last need not be the stream's last token: after a wrong draft it is what would have followed that.
    const known = placement.length < request.knownLength;
    const tokens = known ? request.ids(placement.length, placement.length + 1) : "sampled";
    entries.push({ ...placed, tokens, quiet: false, verify });
    budget -= verify ? 2 : 1;
  }
  for (const placed of running) {
    const { request, placement } = placed;
    const missing = placement.prefillTokens - placement.length;
    if (missing <= 0) continue;
    const count = Math.min(missing, budget);
    if (count <= 0) break;
    entries.push({ ...placed, tokens: request.ids(placement.length, placement.length + count), quiet: count < missing, verify: false });
    budget -= count;
  }
  const blocks = entries.reduce((sum, entry) => sum + blocksToGrow(entry.placement.length, rowCount(entry), blockSize), 0);
  return { entries, blocks };
}

/** Rows of the step that an entry takes. */
export function rowCount({ tokens, verify }: Pick<ScheduledEntry, "tokens" | "verify">): number {
  return (tokens === "sampled" ? 1 : tokens.length) + (verify ? 1 : 0);
}

/** Whether an entry is a stream's next token and not part of a prompt. */
export function isDecode({ placement }: ScheduledEntry): boolean {
  return placement.length >= placement.prefillTokens;
}

function blocksToGrow(length: number, tokens: number, blockSize: number): number {
  return Math.ceil((length + tokens) / blockSize) - Math.ceil(length / blockSize);
}
