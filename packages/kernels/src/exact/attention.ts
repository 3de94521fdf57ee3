/** Attention summed exactly and rounded once (shaders/exact/), for any number of tokens: see kernel.ts. */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import { type KvCache, type MlaShape, type StepBuffers, headConstants, kvCacheConstants, wholeKvB } from "../mla.ts";
import type { MlaOutputSpec } from "../mlaOutput/kernel.ts";
import type { QAbsorbSpec } from "../qAbsorb/kernel.ts";
import { CHUNK, FORMAT_BYTES, SCALE_BLOCK, formatConstants } from "../weights.ts";

const OUTPUT_WORKGROUP = 16;
const VALUES_PER_WORKGROUP = 4;
const TILE = 64;

export interface ExactAttentionSpec {
  readonly shape: MlaShape;
  readonly step: StepBuffers;
  readonly cache: KvCache;
  /** Absorbed queries [tokens, qStride] f32, per head [kvLoraRank | qkRopeHeadDim]. */
  readonly q: GPUBuffer;
  readonly qStride: number;
  /** [tokens, nHeads, roundUp(kvLoraRank, 16)] f32. */
  readonly attended: GPUBuffer;
  readonly softmaxScale: number;
  readonly tokens: number;
  readonly label?: string;
}

export interface ExactOutputSpec extends Omit<MlaOutputSpec, "partial" | "splits" | "variant"> {
  /** exactAttention's. */
  readonly attended: GPUBuffer;
}

/** @throws RangeError if kvB has another shape, or several parts. */
export async function exactQAbsorb(gpu: GpuContext, spec: Omit<QAbsorbSpec, "variant">): Promise<readonly Dispatch[]> {
  const { shape, step, q, qStride, kvB, out, outStride, tokens, label = "exact qAbsorb" } = spec;
  const part = wholeKvB(kvB, shape);
  const constants = {
    ...formatConstants(gpu, kvB.format),
    ...headConstants(shape),
    MAX_TOKENS: step.maxTokens,
    CHUNKS: kvB.stride / CHUNK,
    SCALE_COLUMNS: Math.ceil(kvB.cols / SCALE_BLOCK),
    Q_STRIDE: qStride,
    OUT_STRIDE: outStride,
  };
  const kernel = await gpu.kernel("exact/q_absorb.wgsl", constants, label);
  const scales = kvB.scales && { scales: kvB.scales };
  const buffers = { batch: step.batch, rope_table: step.ropeTable, q, weights: part.buffer, out, ...scales };
  const weights = shape.nHeads * shape.qkNopeHeadDim * kvB.stride;
  const cost = { bytes: weights * FORMAT_BYTES[kvB.format], flops: 2 * tokens * weights };
  return [kernel.dispatch(buffers, [shape.nHeads, tokens, 1], cost, label)];
}

export async function exactAttention(gpu: GpuContext, spec: ExactAttentionSpec): Promise<readonly Dispatch[]> {
  const { shape, step, cache, q, qStride, attended, softmaxScale, tokens, label = "exact attention" } = spec;
  const chunks = Math.ceil(shape.kvLoraRank / CHUNK);
  const constants = {
    ...headConstants(shape),
    ...kvCacheConstants(gpu, shape, step, cache),
    CHUNKS: chunks,
    VECTORS: Math.ceil((chunks * 4) / TILE),
    Q_STRIDE: qStride,
    SCALE: { f32: softmaxScale },
  };
  const kernel = await gpu.kernel("exact/attention.wgsl", constants, label);
  const buffers = { batch: step.batch, block_table: step.blockTable, q, cache: cache.buffer, attended };
  return [kernel.dispatch(buffers, [shape.nHeads, tokens, 1], {}, label)];
}

/** @throws RangeError if kvB has another shape, or several parts. */
export async function exactOutput(gpu: GpuContext, spec: ExactOutputSpec): Promise<readonly Dispatch[]> {
  const { shape, step, attended, kvB, out, outStride, tokens, label = "exact output" } = spec;
  const part = wholeKvB(kvB, shape);
  const constants = {
    ...formatConstants(gpu, kvB.format),
    ...headConstants(shape),
    WORKGROUP: OUTPUT_WORKGROUP,
    MAX_TOKENS: step.maxTokens,
    CHUNKS: kvB.stride / CHUNK,
    SCALE_COLUMNS: Math.ceil(kvB.cols / SCALE_BLOCK),
    OUT_STRIDE: outStride,
  };
  const kernel = await gpu.kernel("exact/output.wgsl", constants, label);
  const buffers = { batch: step.batch, attended, weights: part.buffer, out, ...(kvB.scales && { scales: kvB.scales }) };
  const weights = shape.nHeads * shape.vHeadDim * kvB.stride;
  const cost = { bytes: weights * FORMAT_BYTES[kvB.format], flops: 2 * tokens * weights };
  return [kernel.dispatch(buffers, [Math.ceil(shape.vHeadDim / VALUES_PER_WORKGROUP), shape.nHeads, tokens], cost, label)];
}
