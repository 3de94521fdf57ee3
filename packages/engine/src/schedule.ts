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
  /** Tokens of the prompt that follow these, one each, where their log probabilities are wanted. */
  readonly followedBy: readonly number[];
  /** A prompt's chunk before its last: no token is chosen after it. */
  readonly quiet: boolean;
  /** So many drafted tokens follow, and one is chosen after each. */
  readonly verify: number;
  /** Of the next draft it is known that it is wrong: the grammar has no such token there. */
  readonly refused: boolean;
  /** Which tokens those that are chosen may be, a mask for each. */
  readonly masks?: readonly Uint32Array<ArrayBuffer>[] | undefined;
}

export interface ScheduledStep {
  readonly entries: readonly ScheduledEntry[];
  /** KV blocks that the sequences need beyond those that they have. */
  readonly blocks: number;
  /** Tokens to draft after it, where drafts are made. */
  readonly drafts: number;
  /** Which of the drafts before were right is settled on the device (`Batch.chain`). */
  readonly chain: boolean;
}

export interface ScheduleLimits {
  /** Most tokens in a step. */
  readonly stepTokens: number;
  /** Most rows of logits in a step; at least one for each that runs. */
  readonly maxOutputs: number;
  readonly blockSize: number;
  /**
   * Drafts that were made before are verified, and `next` new ones made. Steps wait for one another, so every token is known here; or they `chain`, and places are as if all drafts
   * on their way were right.
   */
  readonly drafting?: { readonly contextTokens: number; readonly next: number; readonly chain: boolean };
  /** The step is read as soon as it is computed, so that streams which follow a grammar are not held up by it, nor hold others up that are read several steps at once. */
  readonly readAtOnce: boolean;
}

export interface Placed {
  readonly request: ActiveRequest;
  readonly placement: Placement;
}

/** @param running in the order of their admission; at most as many as the budget has tokens */
export function schedule(
  running: readonly Placed[],
  { stepTokens, maxOutputs, blockSize, drafting, readAtOnce }: ScheduleLimits,
): ScheduledStep {
  const entries: ScheduledEntry[] = [];
  let budget = stepTokens;
  // Everybody keeps a row, and a row of logits for the token to choose; drafts and the prompts' own log probabilities take of what is left.
  let spareOutputs = maxOutputs - running.length;
  let spare = Math.min(stepTokens - running.length, spareOutputs);
  // Steps with prompts are read at once in any case, and where all are bound there is nobody to be held up.
  const others = running.some(({ request, placement }) => !request.bound && hasDecode(request, placement));
  const masked =
    readAtOnce || drafting !== undefined || !others || running.some(({ placement }) => placement.length < placement.prefillTokens);
  for (const placed of running) {
    const { request, placement } = placed;
    if (!hasDecode(request, placement)) continue;
    const mask = request.bound && masked ? request.mask : undefined;
    if (request.bound && !mask) continue;
    const made = request.takesDrafts ? (placement.drafts?.made.count ?? 0) : 0;
    const room = Math.min((drafting?.contextTokens ?? 0) - placement.length, request.mostTokens - placement.chosen) - 1;
    const most = Math.max(0, Math.min(made, room, spare));
    const ahead = request.bound && most > 0 ? request.masksAhead : [];
    if (!ahead) continue;
    const verify = request.bound ? Math.min(most, ahead.length) : most;
    const masks = mask && [mask, ...ahead.slice(0, verify)];
    // What the stage sampled last need not be the stream's last token: after a wrong draft it is what would have followed that.
    const known = placement.length < request.knownLength;
    const tokens = known ? request.ids(placement.length, placement.length + 1) : "sampled";
    entries.push({ ...placed, tokens, followedBy: [], quiet: false, verify, refused: verify < most, masks });
    budget -= 1 + verify;
    spare -= verify;
    spareOutputs -= verify;
  }
  for (const placed of running) {
    const { request, placement } = placed;
    const { length } = placement;
    const missing = placement.prefillTokens - length;
    if (missing <= 0) continue;
    const scores = request.followers(length, length + 1).length > 0;
    // Its last position waits for the mask of the first token.
    const mask = request.bound ? request.mask : undefined;
    const wanted = request.bound && !mask ? missing - 1 : missing;
    const count = Math.min(wanted, budget, scores ? spareOutputs + 1 : budget);
    if (count <= 0 && wanted > 0) break;
    if (count <= 0) continue;
    const followedBy = request.followers(length, length + count);
    const quiet = count < missing;
    spareOutputs -= Math.max(0, followedBy.length - (quiet ? 1 : 0));
    const masks = mask && !quiet ? [mask] : undefined;
    entries.push({ ...placed, tokens: request.ids(length, length + count), followedBy, quiet, verify: 0, refused: false, masks });
    budget -= count;
  }
  // The first draft is made at the position of the last token, further ones beyond it.
  const room = entries.flatMap((entry) => (entry.quiet ? [] : (drafting?.contextTokens ?? 0) - entry.placement.length - rowCount(entry)));
  const drafts = drafting ? Math.min(drafting.next, 1 + Math.min(...room)) : 0;
  const blocks = entries.reduce((sum, entry) => {
    const further = entry.quiet ? 0 : Math.max(0, drafts - 1);
    return sum + blocksToGrow(entry.placement.length, rowCount(entry) + further, blockSize);
  }, 0);
  return { entries, blocks, drafts, chain: drafting?.chain ?? false };
}

/** Whether it is a stream that chooses another token. */
function hasDecode(request: ActiveRequest, placement: Placement): boolean {
  return placement.length >= placement.prefillTokens && placement.chosen < request.mostTokens;
}

/** Rows of the step that an entry takes. */
export function rowCount({ tokens, verify }: Pick<ScheduledEntry, "tokens" | "verify">): number {
  return (tokens === "sampled" ? 1 : tokens.length) + verify;
}

/** Whether an entry is a stream's next token and not part of a prompt. */
export function isDecode({ placement }: ScheduledEntry): boolean {
  return placement.length >= placement.prefillTokens;
}

function blocksToGrow(length: number, tokens: number, blockSize: number): number {
  return Math.ceil((length + tokens) / blockSize) - Math.ceil(length / blockSize);
}
