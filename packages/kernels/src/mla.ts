/**
 * Multi-head latent attention: its shape, its paged cache, and the buffers of a step that it reads.
 *
 * The cache of a layer is [blocks, blockSize, row]; kvRow.ts says what a position's row holds. Position p of sequence slot s lies in block `blockTable[s, p / blockSize]`, row p % blockSize. The absorbed form
 * (DeepSeek-V3 inference/model.py, attn_impl "absorb") attends over these rows directly, as one key-value head.
 */
import type { GpuContext, ShaderConstants } from "@shoal/gpu";
import type { Step } from "./batch.ts";
import { type KvFormat, kvRowBytes } from "./kvRow.ts";
import type { WeightMatrix, WeightPart } from "./weights.ts";

export interface MlaShape {
  readonly nHeads: number;
  readonly qkNopeHeadDim: number;
  /** Even. */
  readonly qkRopeHeadDim: number;
  readonly vHeadDim: number;
  readonly kvLoraRank: number;
}

/** One layer's cache. */
export interface KvCache {
  readonly buffer: GPUBuffer;
  readonly format: KvFormat;
  /** Positions in a block. */
  readonly blockSize: number;
  /** From one position to the next: kvRowBytes(). */
  readonly rowBytes: number;
}

export interface StepBuffers extends Step {
  /** [maxSequences, blocksPerSequence] u32. */
  readonly blockTable: GPUBuffer;
  readonly blocksPerSequence: number;
  /** ropeTable(), at least as many positions as any sequence has. */
  readonly ropeTable: GPUBuffer;
}

/** Bytes of what shaders index a cache by: a vector of four elements, with fp8 a word. */
const UNIT_BYTES: Readonly<Record<KvFormat, number>> = { f32: 16, f16: 8, fp8: 4 };

/** Constants of lib/batch.wgsl, lib/kv_cache.wgsl and lib/kv_rows.wgsl. */
export function kvCacheConstants(gpu: GpuContext, shape: MlaShape, step: StepBuffers, cache: KvCache): ShaderConstants {
  const { format, blockSize, rowBytes } = cache;
  const expected = kvRowBytes(shape, format);
  if (rowBytes !== expected) throw new RangeError(`Cannot use a latent cache with rows of ${rowBytes} bytes, expected ${expected}`);
  return {
    MAX_TOKENS: step.maxTokens,
    BLOCKS_PER_SEQUENCE: step.blocksPerSequence,
    BLOCK_SIZE: blockSize,
    CACHE_FORMAT: format,
    CACHE_ROW: rowBytes / UNIT_BYTES[format],
    ...(format === "fp8" && {
      CACHE_WHOLE: shape.kvLoraRank % 4 === 0 && shape.qkRopeHeadDim % 4 === 0,
      FP8_DECODE: gpu.dialect.fp8Decode,
    }),
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
