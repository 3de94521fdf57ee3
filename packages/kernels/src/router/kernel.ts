/** Which experts each token takes, and with what weights (shaders/router/router.wgsl). */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import type { Step } from "../batch.ts";

/** Scores and keys of all experts lie in workgroup memory. */
export const ROUTER_MAX_EXPERTS = 1024;

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
  const { nRoutedExperts, nActivatedExperts, nExpertGroups, topkGroup } = spec;
  if (nRoutedExperts > ROUTER_MAX_EXPERTS || nActivatedExperts > nRoutedExperts || nRoutedExperts % nExpertGroups !== 0)
    throw new RangeError(
      `Cannot route to ${nActivatedExperts} of ${nRoutedExperts} experts in ${nExpertGroups} groups, expected equal groups of at most ${ROUTER_MAX_EXPERTS} experts`,
    );
  const grouped = nExpertGroups > 1 && topkGroup < nExpertGroups;
  const kernel = await gpu.kernel(
    "router/router.wgsl",
    {
      WORKGROUP: nRoutedExperts <= 64 ? 64 : 256,
      MAX_TOKENS: step.maxTokens,
      EXPERTS: nRoutedExperts,
      TOP_K: nActivatedExperts,
      SHARED_SLOTS: spec.sharedSlots,
      LOGITS_STRIDE: logitsStride,
      SCORE: spec.scoreFunc,
      BIAS: bias !== undefined,
      GROUPED: grouped,
      ...(grouped && { GROUPS: nExpertGroups, TOPK_GROUP: topkGroup, GROUP_SCORE: spec.groupScore }),
      NORMALIZED: spec.normTopkProb,
      SCALING: { f32: spec.routedScalingFactor },
    },
    label,
  );
  return [kernel.dispatch({ logits, batch: step.batch, routing, ...(bias && { bias }) }, [tokens, 1, 1], {}, label)];
}
