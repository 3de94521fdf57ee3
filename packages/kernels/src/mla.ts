/**
 * Multi-head latent attention: its shape, its paged cache, and the buffers of a step that it reads.
 *
 * The cache of a layer is [blocks, blockSize, stride]; a position's row holds the normed latent (kvLoraRank), then the rotated key part that all heads
 * share (qkRopeHeadDim), then zeros. Position p of sequence slot s lies in block `blockTable[s, p / blockSize]`, row p % blockSize. The absorbed form
 * (DeepSeek-V3 inference/model.py, attn_impl "absorb") attends over these rows directly, as one key-value head.
 */
import type { ShaderConstants } from "@shoal/gpu";
import type { Step } from "./batch.ts";
import { type WeightMatrix, type WeightPart, roundUp } from "./weights.ts";

export interface MlaShape {
  readonly nHeads: number;
  readonly qkNopeHeadDim: number;
  /** Even. */
  readonly qkRopeHeadDim: number;
  readonly vHeadDim: number;
  readonly kvLoraRank: number;
}

export type KvFormat = "f32" | "f16";

/** One layer's cache. */
export interface KvCache {
  readonly buffer: GPUBuffer;
  /** f16 values lie in pairs in u32. */
  readonly format: KvFormat;
  /** Positions in a block. */
  readonly blockSize: number;
  /** Elements from one position to the next: kvCacheStride(). */
  readonly stride: number;
}

export interface StepBuffers extends Step {
  /** [maxSequences, blocksPerSequence] u32. */
  readonly blockTable: GPUBuffer;
  readonly blocksPerSequence: number;
  /** ropeTable(), at least as many positions as any sequence has. */
  readonly ropeTable: GPUBuffer;
}

/** Elements of a cached position. */
export function kvCacheStride({ kvLoraRank, qkRopeHeadDim }: Pick<MlaShape, "kvLoraRank" | "qkRopeHeadDim">): number {
  return roundUp(kvLoraRank + qkRopeHeadDim, 8);
}

export function kvBlockBytes(shape: Pick<MlaShape, "kvLoraRank" | "qkRopeHeadDim">, format: KvFormat, blockSize: number): number {
  return blockSize * kvCacheStride(shape) * (format === "f16" ? 2 : 4);
}

/** Constants of lib/batch.wgsl and lib/kv_cache.wgsl. */
export function kvCacheConstants(shape: MlaShape, step: StepBuffers, cache: KvCache): ShaderConstants {
  const stride = kvCacheStride(shape);
  if (cache.stride !== stride)
    throw new RangeError(`Cannot use a latent cache with a stride of ${cache.stride} elements, expected ${stride}`);
  return {
    MAX_TOKENS: step.maxTokens,
    BLOCKS_PER_SEQUENCE: step.blocksPerSequence,
    BLOCK_SIZE: cache.blockSize,
    CACHE_FORMAT: cache.format,
    CACHE_VECTORS: stride / 4,
  };
}

/** Constants that tell the shaders a head's sizes. */
export function headConstants({ nHeads, qkNopeHeadDim, qkRopeHeadDim, vHeadDim, kvLoraRank }: MlaShape): ShaderConstants {
  return { HEADS: nHeads, NOPE: qkNopeHeadDim, ROPE: qkRopeHeadDim, VALUE: vHeadDim, LATENT: kvLoraRank };
}

/**
 * The whole kv_b_proj [heads * (nope + value), latent]: heads straddle scale blocks, so it is read as one.
 * @throws RangeError if its shape is another, or it is in several parts.
 */
export function wholeKvB(kvB: WeightMatrix, shape: MlaShape): WeightPart {
  const rows = shape.nHeads * (shape.qkNopeHeadDim + shape.vHeadDim);
  if (kvB.rows !== rows || kvB.cols !== shape.kvLoraRank)
    throw new RangeError(`Cannot use a kv_b_proj of [${kvB.rows}, ${kvB.cols}], expected [${rows}, ${shape.kvLoraRank}]`);
  const [part, ...more] = kvB.parts;
  if (!part || more.length > 0)
    throw new RangeError(`Cannot use a kv_b_proj of [${kvB.rows}, ${kvB.cols}] in ${kvB.parts.length} parts, expected one part`);
  return part;
}
