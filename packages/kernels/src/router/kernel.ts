/** Which experts each token takes, and with what weights (shaders/router/router.wgsl). */
import type { Dispatch, GpuContext, ShaderConstants } from "@shoal/gpu";
import type { Step } from "../batch.ts";

/** Scores and keys of all experts lie in workgroup memory. */
export const ROUTER_MAX_EXPERTS = 1024;
/** Experts compared with each other first, where no groups say otherwise: the square root of what most models have, twice. */
const UNGROUPED_BLOCK = 32;

export interface RouterSpec {
  readonly nRoutedExperts: number;
  /** Experts that a token takes ("topK"). */
  readonly nActivatedExperts: number;
  /** 1: no groups. */
  readonly nExpertGroups: number;
  readonly topkGroup: number;
  readonly scoreFunc: "sigmoid" | "softmax";
  /** V3 ("noaux_tc"): top2sum; V2 ("group_limited_greedy"): max. */
  readonly groupScore: "top2sum" | "max";
  readonly normTopkProb: boolean;
  readonly routedScalingFactor: number;
  /** Further experts nRoutedExperts, nRoutedExperts + 1, ... that every token takes with weight 1. */
  readonly sharedSlots: number;
}

export interface RouterOptions {
  /** logits [tokens, logitsStride] f32. */
  readonly logits: GPUBuffer;
  readonly logitsStride: number;
  /** eScoreCorrectionBias [nRoutedExperts] f32. */
  readonly bias?: GPUBuffer;
  /** Out: [tokens, nActivatedExperts + sharedSlots] of (expert, weight). */
  readonly routing: GPUBuffer;
  readonly spec: RouterSpec;
  readonly tokens: number;
  readonly step: Step;
  readonly label?: string;
}

/** @throws RangeError if the numbers of experts, groups and slots do not fit each other. */
export async function router(gpu: GpuContext, options: RouterOptions): Promise<readonly Dispatch[]> {
  const { logits, logitsStride, bias, routing, spec, tokens, step, label = "router" } = options;
  const kernel = await gpu.kernel(
    "router/router.wgsl",
    {
      ...routeConstants(spec, bias !== undefined),
      WORKGROUP: spec.nRoutedExperts <= 64 ? 64 : 256,
      MAX_TOKENS: step.maxTokens,
      LOGITS_STRIDE: logitsStride,
    },
    label,
  );
  return [kernel.dispatch({ logits, batch: step.batch, routing, ...(bias && { bias }) }, [tokens, 1, 1], {}, label)];
}

/**
 * Constants of shaders/lib/route.wgsl, but for the workgroup's size.
 * @throws RangeError if the numbers of experts, groups and slots do not fit each other.
 */
export function routeConstants(spec: RouterSpec, hasBias: boolean): ShaderConstants {
  const { nRoutedExperts, nActivatedExperts, nExpertGroups, topkGroup, groupScore } = spec;
  if (nRoutedExperts > ROUTER_MAX_EXPERTS || nRoutedExperts % nExpertGroups !== 0)
    throw new RangeError(
      `Cannot route to ${nRoutedExperts} experts in ${nExpertGroups} groups, expected equal groups of at most ${ROUTER_MAX_EXPERTS} experts`,
    );
  const grouped = nExpertGroups > 1 && topkGroup < nExpertGroups;
  const selectable = grouped ? (nRoutedExperts / nExpertGroups) * topkGroup : nRoutedExperts;
  if (nActivatedExperts > selectable)
    throw new RangeError(
      `Cannot route to ${nActivatedExperts} of ${nRoutedExperts} experts, expected at most the ${selectable} to choose from`,
    );
  const block = grouped ? nRoutedExperts / nExpertGroups : Math.min(nRoutedExperts, UNGROUPED_BLOCK);
  return {
    EXPERTS: nRoutedExperts,
    TOP_K: nActivatedExperts,
    SHARED_SLOTS: spec.sharedSlots,
    SCORE: spec.scoreFunc,
    BIAS: hasBias,
    GROUPED: grouped,
    ...(grouped && { TOPK_GROUP: topkGroup, GROUP_SCORE: groupScore }),
    BLOCK: block,
    BLOCKS: Math.ceil(nRoutedExperts / block),
    KEPT: Math.min(block, Math.max(nActivatedExperts, grouped && groupScore === "top2sum" ? 2 : 1)),
    NORMALIZED: spec.normTopkProb,
    SCALING: { f32: spec.routedScalingFactor },
  };
}
