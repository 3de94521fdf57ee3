/** Queries into the latent space, and their rotation (shaders/mla/q_absorb*.wgsl). variants.ts says which shader. */
import type { Dispatch, GpuContext, ShaderConstants } from "@shoal/gpu";
import type { KvWriteSpec } from "../kvWrite/kernel.ts";
import { type MlaShape, type StepBuffers, headConstants, kvCacheConstants, wholeKvB } from "../mla.ts";
import { CHUNK, FORMAT_BYTES, SCALE_BLOCK, type WeightMatrix, formatConstants } from "../weights.ts";
import { qAbsorbVariant } from "./variants.ts";

/** Queries as mla/attend_matrix.wgsl reads them (shaders/lib/absorbed_halves.wgsl), and the step's rows of the cache written besides. */
export interface AbsorbedHalves extends Pick<KvWriteSpec, "cache" | "x" | "xStride" | "xOffset" | "gamma" | "epsilon"> {
  /** Tokens that there is room for. */
  readonly room: number;
}

/** Times as many workgroups as a head has, which write the rows: one each for 32 tokens, where a head has 8. */
const WRITERS = 4;

/** Bytes of such queries. */
export function absorbedHalvesBytes({ nHeads, kvLoraRank, qkRopeHeadDim }: MlaShape, tokens: number): number {
  return tokens * nHeads * ((kvLoraRank + qkRopeHeadDim) * 4 + 8);
}

/** Constants of lib/absorbed_halves.wgsl. */
export function absorbedHalvesConstants(tokens: number): ShaderConstants {
  return { ABSORBED_TOKENS: tokens };
}

export interface QAbsorbSpec {
  readonly shape: MlaShape;
  readonly step: StepBuffers;
  /** q [tokens, qStride] f32, per head [qkNopeHeadDim | qkRopeHeadDim]. */
  readonly q: GPUBuffer;
  readonly qStride: number;
  /** kv_b_proj [nHeads * (qkNopeHeadDim + vHeadDim), kvLoraRank], in one part. */
  readonly kvB: WeightMatrix;
  /** out [tokens, outStride] f32, per head [kvLoraRank | qkRopeHeadDim]. */
  readonly out: GPUBuffer;
  readonly outStride: number;
  /** Only with the variant "several" and fp8 weights; `out` is that. */
  readonly halves?: AbsorbedHalves;
  readonly tokens: number;
  /** By name, of qAbsorbVariants(). */
  readonly variant?: string;
  readonly label?: string;
}

/** @throws RangeError if kvB has another shape, or several parts, or a variant is asked for that there is not. */
export async function qAbsorb(gpu: GpuContext, spec: QAbsorbSpec): Promise<readonly Dispatch[]> {
  const { shape, step, q, qStride, kvB, out, outStride, halves, tokens, label = "qAbsorb" } = spec;
  const part = wholeKvB(kvB, shape);
  const { shader, tileTokens, tileChunks, constants } = qAbsorbVariant(gpu, { tokens, nope: shape.qkNopeHeadDim }, spec.variant);
  const chunks = kvB.stride / CHUNK;
  const kernel = await gpu.kernel(
    shader,
    {
      ...formatConstants(gpu, kvB.format),
      ...headConstants(shape),
      MAX_TOKENS: step.maxTokens,
      ...constants,
      SPLIT: halves !== undefined,
      ...(halves && {
        ...kvCacheConstants(gpu, shape, step, halves.cache),
        ...absorbedHalvesConstants(halves.room),
        X_STRIDE: halves.xStride,
        X_OFFSET: halves.xOffset ?? 0,
        EPSILON: { f32: halves.epsilon },
        EXACT: false,
        LANES: gpu.dialect.subgroupSize,
        SCALE_BLOCKS: Math.ceil(shape.qkNopeHeadDim / SCALE_BLOCK) + 1,
      }),
      CHUNKS: chunks,
      WORDS: FORMAT_BYTES[kvB.format],
      SCALE_COLUMNS: Math.ceil(kvB.cols / SCALE_BLOCK),
      Q_STRIDE: qStride,
      OUT_STRIDE: outStride,
      Q_VECTORS: inFours(shape.qkNopeHeadDim, shape.qkRopeHeadDim, qStride),
      OUT_VECTORS: inFours(shape.kvLoraRank, shape.qkRopeHeadDim, outStride),
    },
    label,
  );
  const buffers = {
    batch: step.batch,
    rope_table: step.ropeTable,
    q,
    weights: part.buffer,
    out,
    ...(kvB.scales && { scales: kvB.scales }),
    ...(halves && { block_table: step.blockTable, x: halves.x, gamma: halves.gamma, cache: halves.cache.buffer }),
  };
  const weights = shape.nHeads * shape.qkNopeHeadDim * kvB.stride;
  const cost = { bytes: weights * FORMAT_BYTES[kvB.format], flops: 2 * tokens * weights };
  return [
    kernel.dispatch(
      buffers,
      [Math.ceil(chunks / tileChunks), shape.nHeads + (halves ? WRITERS : 0), Math.ceil(tokens / tileTokens)],
      cost,
      label,
    ),
  ];
}

function inFours(...sizes: readonly number[]): boolean {
  return sizes.every((size) => size % 4 === 0);
}
