/** Queries into the latent space, and their rotation (shaders/mla/q_absorb*.wgsl). variants.ts says which shader. */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import { type MlaShape, type StepBuffers, headConstants, wholeKvB } from "../mla.ts";
import { CHUNK, FORMAT_BYTES, SCALE_BLOCK, type WeightMatrix, formatConstants } from "../weights.ts";
import { qAbsorbVariant } from "./variants.ts";

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
  readonly tokens: number;
  /** By name, of qAbsorbVariants(). */
  readonly variant?: string;
  readonly label?: string;
}

/** @throws RangeError if kvB has another shape, or several parts, or a variant is asked for that there is not. */
export async function qAbsorb(gpu: GpuContext, spec: QAbsorbSpec): Promise<readonly Dispatch[]> {
  const { shape, step, q, qStride, kvB, out, outStride, tokens, label = "qAbsorb" } = spec;
  const part = wholeKvB(kvB, shape);
  const { shader, tileTokens, constants } = qAbsorbVariant(gpu, tokens, spec.variant);
  const chunks = kvB.stride / CHUNK;
  const kernel = await gpu.kernel(
    shader,
    {
      ...formatConstants(gpu, kvB.format),
      ...headConstants(shape),
      MAX_TOKENS: step.maxTokens,
      ...constants,
      CHUNKS: chunks,
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
  };
  const weights = shape.nHeads * shape.qkNopeHeadDim * kvB.stride;
  const cost = { bytes: weights * FORMAT_BYTES[kvB.format], flops: 2 * tokens * weights };
  return [kernel.dispatch(buffers, [Math.ceil(chunks / 8), shape.nHeads, Math.ceil(tokens / tileTokens)], cost, label)];
}

function inFours(...sizes: readonly number[]): boolean {
  return sizes.every((size) => size % 4 === 0);
}
