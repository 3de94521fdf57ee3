/** Queries into the latent space, and their rotation (shaders/mla/q_absorb.wgsl). */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import { type MlaShape, type StepBuffers, headConstants, wholeKvB } from "../mla.ts";
import { CHUNK, FORMAT_BYTES, SCALE_BLOCK, type WeightMatrix, formatConstants } from "../weights.ts";

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
  readonly label?: string;
}

/** Tokens of an invocation; sliced sums of four fill the 16 KiB of workgroup memory that every device has. */
const TOKENS = 4;
const TOKEN_GROUPS = 8;

/** @throws RangeError if kvB has another shape, or several parts. */
export async function qAbsorb(gpu: GpuContext, spec: QAbsorbSpec): Promise<readonly Dispatch[]> {
  const { shape, step, q, qStride, kvB, out, outStride, tokens, label = "qAbsorb" } = spec;
  const part = wholeKvB(kvB, shape);
  const sliced = tokens <= TOKENS;
  const tile = tokens === 1 ? 1 : TOKENS;
  const chunks = kvB.stride / CHUNK;
  const kernel = await gpu.kernel(
    "mla/q_absorb.wgsl",
    {
      ...formatConstants(gpu, kvB.format),
      ...headConstants(shape),
      MAX_TOKENS: step.maxTokens,
      TOKENS: tile,
      SLICED: sliced,
      CHUNKS: chunks,
      SCALE_COLUMNS: Math.ceil(kvB.cols / SCALE_BLOCK),
      Q_STRIDE: qStride,
      OUT_STRIDE: outStride,
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
  return [
    kernel.dispatch(buffers, [Math.ceil(chunks / 8), shape.nHeads, Math.ceil(tokens / (sliced ? tile : tile * TOKEN_GROUPS))], cost, label),
  ];
}
