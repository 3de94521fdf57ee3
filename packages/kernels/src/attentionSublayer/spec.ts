/** What the attention of a small layer is asked for with. */
import type { KvCache, MlaShape, StepBuffers } from "../mla.ts";
import type { WeightMatrix } from "../weights.ts";

/** Norms of a layer's attention in one buffer, each with zeros to the next multiple of 16: the layer's input's [hidden] at its start, then the latents'. */
export interface AttentionNorms {
  readonly buffer: GPUBuffer;
  /** Where the norm of the query's latent [qLoraRank] begins, in elements: a multiple of 4. */
  readonly queryStart: number;
  /** Where that of the cache's [kvLoraRank] does. */
  readonly latentStart: number;
}

export interface AttentionSublayerSpec {
  readonly shape: MlaShape;
  readonly qLoraRank: number;
  readonly step: StepBuffers;
  readonly cache: KvCache;
  /** The residual stream of the token [hidden] f32, zero up to the next multiple of 16: read through the norm, and added to. */
  readonly x: GPUBuffer;
  readonly norms: AttentionNorms;
  readonly epsilon: number;
  /** Of the latents' norms. */
  readonly latentEpsilon: number;
  /** q_a_proj, then from row `kvStart` on kv_a_proj_with_mqa: [rows, hidden]. */
  readonly input: WeightMatrix;
  readonly kvStart: number;
  /** q_b_proj [nHeads * (qkNopeHeadDim + qkRopeHeadDim), qLoraRank] */
  readonly queryB: WeightMatrix;
  readonly kvB: WeightMatrix;
  /** o_proj [hidden, nHeads * vHeadDim] */
  readonly output: WeightMatrix;
  readonly softmaxScale: number;
  /** Of `attentionBoardBytes`, zeros; zeros again when the dispatch has run. */
  readonly board: GPUBuffer;
  /** One of `attentionSublayerVariants`, by name. */
  readonly variant?: string;
  readonly label?: string;
}
