/** The merge of split attention, and the value rows of kv_b_proj (shaders/mla/output.wgsl). */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import { type MlaShape, type StepBuffers, headConstants, wholeKvB } from "../mla.ts";
import { CHUNK, FORMAT_BYTES, SCALE_BLOCK, type WeightMatrix, formatConstants } from "../weights.ts";

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
  readonly label?: string;
}

/** Values that a workgroup computes. */
const VALUES = 64;
const MAX_TILE = 4;
/** Workgroup memory a token, besides its latent. */
const SUM_BYTES = 128 * 16;

/** @throws RangeError if kvB has another shape, or several parts, or a latent does not fit workgroup memory. */
export async function mlaOutput(gpu: GpuContext, spec: MlaOutputSpec): Promise<readonly Dispatch[]> {
  const { shape, step, partial, splits, kvB, out, outStride, tokens, label = "mlaOutput" } = spec;
  const part = wholeKvB(kvB, shape);
  const room = Math.floor(gpu.limits.maxComputeWorkgroupStorageSize / (kvB.stride * 4 + SUM_BYTES));
  if (room < 1) throw new RangeError(`Cannot merge latents of ${kvB.cols}: they do not fit workgroup memory`);
  const tile = Math.min(tokens === 1 ? 1 : MAX_TILE, room);
  const kernel = await gpu.kernel(
    "mla/output.wgsl",
    {
      ...formatConstants(gpu, kvB.format),
      ...headConstants(shape),
      MAX_TOKENS: step.maxTokens,
      SPLITS: splits,
      TOKENS: tile,
      CHUNKS: kvB.stride / CHUNK,
      SCALE_COLUMNS: Math.ceil(kvB.cols / SCALE_BLOCK),
      OUT_STRIDE: outStride,
    },
    label,
  );
  const buffers = { batch: step.batch, partial, weights: part.buffer, out, ...(kvB.scales && { scales: kvB.scales }) };
  const weights = shape.nHeads * shape.vHeadDim * kvB.stride;
  const cost = { bytes: weights * FORMAT_BYTES[kvB.format], flops: 2 * tokens * weights };
  return [kernel.dispatch(buffers, [Math.ceil(shape.vHeadDim / VALUES), shape.nHeads, Math.ceil(tokens / tile)], cost, label)];
}
