/** Attention over the latent cache, split over ranges of positions (shaders/mla/attention.wgsl). */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import { type KvCache, type MlaShape, type StepBuffers, headConstants, kvCacheConstants } from "../mla.ts";
import { CHUNK, roundUp } from "../weights.ts";

export interface MlaAttentionSpec {
  readonly shape: MlaShape;
  readonly step: StepBuffers;
  readonly cache: KvCache;
  /** Absorbed queries [tokens, qStride] f32, per head [kvLoraRank | qkRopeHeadDim]: qAbsorb's `out`. */
  readonly q: GPUBuffer;
  readonly qStride: number;
  /** partialBytes(shape, tokens, splits). */
  readonly partial: GPUBuffer;
  /** Ranges that each token's positions are divided into, for parallelism: 1 where there are many tokens. */
  readonly splits: number;
  readonly softmaxScale: number;
  readonly tokens: number;
  /** Heads that share a workgroup's loads of the cache, a multiple of 4; chosen by the device if not given. */
  readonly groupHeads?: number;
  readonly label?: string;
}

/** Bytes of partial results: [tokens, splits, heads], each a latent, a maximum and a sum. */
export function partialBytes({ nHeads, kvLoraRank }: Pick<MlaShape, "nHeads" | "kvLoraRank">, maxTokens: number, splits: number): number {
  return maxTokens * splits * nHeads * (roundUp(kvLoraRank, CHUNK) + 4) * 4;
}

/** On software adapters four, because compilers of CPU code take ten seconds and more over the sums of sixteen. */
const GROUP_HEADS = 16;
const SOFTWARE_GROUP_HEADS = 4;
/** Positions whose scores an invocation computes at once. */
const POSITIONS = 2;

export async function mlaAttention(gpu: GpuContext, spec: MlaAttentionSpec): Promise<readonly Dispatch[]> {
  const { shape, step, cache, q, qStride, partial, splits, softmaxScale, tokens, label = "mlaAttention" } = spec;
  const { nHeads, kvLoraRank, qkRopeHeadDim } = shape;
  const chunks = Math.ceil(kvLoraRank / CHUNK);
  const wanted = spec.groupHeads ?? (gpu.adapter.isSoftware ? SOFTWARE_GROUP_HEADS : GROUP_HEADS);
  const groupHeads = Math.min(wanted, roundUp(nHeads, 4));
  const invocations = kvLoraRank > 256 ? 128 : 64;
  const workgroup = invocations - (invocations % (groupHeads / 4));
  const width = kvLoraRank + qkRopeHeadDim;
  const kernel = await gpu.kernel(
    "mla/attention.wgsl",
    {
      ...headConstants(shape),
      ...kvCacheConstants(shape, step, cache),
      CHUNKS: chunks,
      SPLITS: splits,
      GROUP_HEADS: groupHeads,
      WORKGROUP: workgroup,
      POSITIONS,
      VECTORS: Math.ceil((chunks * 4) / workgroup),
      Q_STRIDE: qStride,
      Q_VECTORS: width % 4 === 0 && qStride % 4 === 0,
      SCALE: { f32: softmaxScale },
    },
    label,
  );
  const buffers = { batch: step.batch, block_table: step.blockTable, q, cache: cache.buffer, partial };
  return [kernel.dispatch(buffers, [Math.ceil(nHeads / groupHeads), splits, tokens], {}, label)];
}
