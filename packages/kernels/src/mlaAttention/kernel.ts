/** Attention over the latent cache, split over ranges of positions (shaders/mla/attention*.wgsl). variants.ts says how it is blocked. */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import { type KvCache, type MlaShape, type StepBuffers, headConstants, kvCacheConstants } from "../mla.ts";
import { CHUNK, roundUp } from "../weights.ts";
import { mlaAttentionVariant } from "./variants.ts";

export interface MlaAttentionSpec {
  readonly shape: MlaShape;
  readonly step: StepBuffers;
  readonly cache: KvCache;
  /** Absorbed queries [tokens, qStride] f32, per head [kvLoraRank | qkRopeHeadDim]: qAbsorb's `out`. */
  readonly q: GPUBuffer;
  readonly qStride: number;
  /** partialBytes(shape, tokens, splits). */
  readonly partial: GPUBuffer;
  /** Ranges that each token's positions are divided into, for parallelism: attentionSplits(). */
  readonly splits: number;
  readonly softmaxScale: number;
  readonly tokens: number;
  /** By name, of mlaAttentionVariants(). */
  readonly variant?: string;
  readonly label?: string;
}

/** Bytes of partial results: [tokens, splits, heads], each a latent, a maximum and a sum. */
export function partialBytes({ nHeads, kvLoraRank }: Pick<MlaShape, "nHeads" | "kvLoraRank">, maxTokens: number, splits: number): number {
  return maxTokens * splits * nHeads * (roundUp(kvLoraRank, CHUNK) + 4) * 4;
}

/** @throws RangeError if a variant is asked for that the device cannot run. */
export async function mlaAttention(gpu: GpuContext, spec: MlaAttentionSpec): Promise<readonly Dispatch[]> {
  const { shape, step, cache, q, qStride, partial, splits, softmaxScale, tokens, label = "mlaAttention" } = spec;
  const { nHeads, kvLoraRank, qkRopeHeadDim } = shape;
  const attended = { ...shape, format: cache.format };
  const { shader, groupHeads, constants, shapeConstants } = mlaAttentionVariant(gpu, attended, tokens, spec.variant);
  const width = kvLoraRank + qkRopeHeadDim;
  const kernel = await gpu.kernel(
    shader,
    {
      ...headConstants(shape),
      ...kvCacheConstants(gpu, shape, step, cache),
      CHUNKS: Math.ceil(kvLoraRank / CHUNK),
      SPLITS: splits,
      ...constants,
      ...shapeConstants(attended),
      Q_STRIDE: qStride,
      Q_VECTORS: width % 4 === 0 && qStride % 4 === 0,
      SCALE: { f32: softmaxScale },
    },
    label,
  );
  const buffers = { batch: step.batch, block_table: step.blockTable, q, cache: cache.buffer, partial };
  return [kernel.dispatch(buffers, [Math.ceil(nHeads / groupHeads), splits, tokens], {}, label)];
}
