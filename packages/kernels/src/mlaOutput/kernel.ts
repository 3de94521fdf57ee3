/** The merge of split attention, and the value rows of kv_b_proj (shaders/mla/output*.wgsl). variants.ts says which shader. */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import { type MlaShape, type StepBuffers, headConstants, wholeKvB } from "../mla.ts";
import { CHUNK, FORMAT_BYTES, SCALE_BLOCK, type WeightMatrix, formatConstants } from "../weights.ts";
import { mlaOutputVariant } from "./variants.ts";

export interface MlaOutputSpec {
  readonly shape: MlaShape;
  readonly step: StepBuffers;
  /** mlaAttention's, of as many splits. */
  readonly partial: GPUBuffer;
  readonly splits: number;
  /** kv_b_proj [nHeads * (qkNopeHeadDim + vHeadDim), kvLoraRank], in one part. */
  readonly kvB: WeightMatrix;
  /** out [tokens, outStride] f32, per head vHeadDim. */
  readonly out: GPUBuffer;
  readonly outStride: number;
  readonly tokens: number;
  /** By name, of mlaOutputVariants(). */
  readonly variant?: string;
  readonly label?: string;
}

/** @throws RangeError if kvB has another shape, or several parts, or a latent does not fit workgroup memory, or a variant is asked for that there is not. */
export async function mlaOutput(gpu: GpuContext, spec: MlaOutputSpec): Promise<readonly Dispatch[]> {
  const { shape, step, partial, splits, kvB, out, outStride, tokens, label = "mlaOutput" } = spec;
  const part = wholeKvB(kvB, shape);
  const variant = mlaOutputVariant(gpu, { tokens, splits, stride: kvB.stride }, spec.variant);
  const kernel = await gpu.kernel(
    variant.shader,
    {
      ...formatConstants(gpu, kvB.format),
      ...headConstants(shape),
      MAX_TOKENS: step.maxTokens,
      SPLITS: splits,
      ...variant.constants,
      CHUNKS: kvB.stride / CHUNK,
      SCALE_COLUMNS: Math.ceil(kvB.cols / SCALE_BLOCK),
      OUT_STRIDE: outStride,
      OUT_VECTORS: shape.vHeadDim % 4 === 0 && outStride % 4 === 0,
    },
    label,
  );
  const buffers = { batch: step.batch, partial, weights: part.buffer, out, ...(kvB.scales && { scales: kvB.scales }) };
  const weights = shape.nHeads * shape.vHeadDim * kvB.stride;
  const cost = { bytes: weights * FORMAT_BYTES[kvB.format], flops: 2 * tokens * weights };
  const grid = [Math.ceil(shape.vHeadDim / variant.tileValues), shape.nHeads, Math.ceil(tokens / variant.tileTokens)] as const;
  return [kernel.dispatch(buffers, grid, cost, label)];
}
