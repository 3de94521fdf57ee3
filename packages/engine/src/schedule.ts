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
  /** Ids of a prompt's next chunk, or the token that the last step chose. */
  readonly tokens: readonly number[] | "sampled";
  /** A prompt's chunk before its last: no token is chosen after it. */
  readonly quiet: boolean;
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
}

export interface Placed {
  readonly request: ActiveRequest;
  readonly placement: Placement;
}

/** @param running in the order of their admission; at most as many as the budget has tokens */
export function schedule(running: readonly Placed[], { stepTokens, blockSize }: ScheduleLimits): ScheduledStep {
  const entries: ScheduledEntry[] = [];
  let budget = stepTokens;
  for (const placed of running) {
    const { request, placement } = placed;
    if (placement.length < placement.prefillTokens || placement.chosen >= request.mostTokens) continue;
    entries.push({ ...placed, tokens: "sampled", quiet: false });
    budget--;
  }
  for (const placed of running) {
    const { request, placement } = placed;
    const missing = placement.prefillTokens - placement.length;
    if (missing <= 0) continue;
    const count = Math.min(missing, budget);
    if (count <= 0) break;
    entries.push({ ...placed, tokens: request.ids(placement.length, placement.length + count), quiet: count < missing });
    budget -= count;
  }
  const blocks = entries.reduce((sum, { placement, tokens }) => sum + blocksToGrow(placement.length, tokenCount(tokens), blockSize), 0);
  return { entries, blocks };
}

export function tokenCount(tokens: ScheduledEntry["tokens"]): number {
  return tokens === "sampled" ? 1 : tokens.length;
}

function blocksToGrow(length: number, tokens: number, blockSize: number): number {
  return Math.ceil((length + tokens) / blockSize) - Math.ceil(length / blockSize);
}
