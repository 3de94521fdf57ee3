/** Into how many ranges attention splits the positions of each token, so that few tokens keep a large GPU busy too. */
import type { GpuContext } from "@shoal/gpu";

export interface SplitsRequest {
  readonly nHeads: number;
  readonly tokens: number;
  /** Longest sequence that there may be. */
  readonly contextTokens: number;
}

/** Workgroups that fill a large GPU: two for each of an H100's 132 processors, about. */
const WANTED_WORKGROUPS = 256;
const GROUP_HEADS = 16;
const MOST_SPLITS = 64;
/** More ranges than that many positions each would leave some empty at any length. */
const LEAST_POSITIONS = 16;
/** Software adapters have a few processors: more ranges are no faster there, and each has to be merged. */
const SOFTWARE_SPLITS = 4;
/** Splits do not differ among so few tokens, so that a sequence's sums do not depend on how many decode beside it. */
const FEW_TOKENS = 4;

/**
 * Ranges for a step of that many tokens, a power of two, since each number is a pipeline. Ranges beyond a sequence's length end at once
 * and are left out of the merge, so
 * that one number does for short contexts and long ones.
 */
export function attentionSplits(gpu: GpuContext, request: SplitsRequest): number {
  const splits = splitsOf(request);
  if (!gpu.adapter.isSoftware) return splits;
  return request.tokens <= FEW_TOKENS ? Math.min(SOFTWARE_SPLITS, splits) : 1;
}

/** The most ranges that a step of up to `maxTokens` has, over all its tokens: what partialBytes() is asked for, with one split. */
export function attentionPartialRows({
  nHeads,
  maxTokens,
  contextTokens,
}: Omit<SplitsRequest, "tokens"> & { readonly maxTokens: number }): number {
  let most = 0;
  for (let tokens = 1; tokens <= maxTokens; tokens++) most = Math.max(most, tokens * splitsOf({ nHeads, tokens, contextTokens }));
  return most;
}

function splitsOf({ nHeads, tokens, contextTokens }: SplitsRequest): number {
  const workgroups = Math.ceil(nHeads / GROUP_HEADS) * (tokens <= FEW_TOKENS ? 1 : tokens);
  const wanted = Math.min(WANTED_WORKGROUPS / workgroups, contextTokens / LEAST_POSITIONS, MOST_SPLITS);
  return 2 ** Math.max(0, Math.ceil(Math.log2(wanted)));
}
