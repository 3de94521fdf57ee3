/**
 * Products summed exactly and rounded once (shaders/exact/), for any number of tokens: what w8a8 takes, where a sum's last bit decides between two FP8 codes. Every device
 * gives the same numbers. They cost some ten times the arithmetic of the other products.
 */
import type { BufferRange, Dispatch, GpuContext } from "@shoal/gpu";
import { pageSets } from "../expertPages.ts";
import type { ExpertGroup } from "../experts.ts";
import type { ExpertsDownFewSpec, ExpertsGateUpFewSpec } from "../expertsFew/kernel.ts";
import { CHUNK, FORMAT_BYTES, SCALE_BLOCK, type WeightMatrix, formatConstants, roundUp } from "../weights.ts";

const ROWS_PER_WORKGROUP = 4;
/** Narrow, since the trained model's rows have 20 chunks. */
const WORKGROUP = 32;

export interface ExactLinearSpec {
  readonly matrix: WeightMatrix;
  readonly tokens: number;
  /** x [tokens, xStride] f32; xStride a multiple of 4, zero up to the next multiple of 16 past `cols`. */
  readonly x: GPUBuffer;
  readonly xStride: number;
  /** y [tokens, yStride] f32; a range of a buffer places the output in wider rows. */
  readonly y: BufferRange;
  readonly yStride: number;
  /** Adds to y instead of overwriting it. */
  readonly residual?: boolean;
  readonly label?: string;
}

/** y = W x: one dispatch for each part of the matrix. */
export async function exactLinear(gpu: GpuContext, spec: ExactLinearSpec): Promise<readonly Dispatch[]> {
  const { matrix, tokens, x, xStride, y, yStride, residual = false, label = "exact linear" } = spec;
  const dispatches: Dispatch[] = [];
  for (const part of matrix.parts) {
    const constants = {
      ...formatConstants(gpu, matrix.format),
      WORKGROUP,
      CHUNKS: matrix.stride / CHUNK,
      SCALE_COLUMNS: Math.ceil(matrix.cols / SCALE_BLOCK),
      ROW_START: part.rowStart,
      ROW_COUNT: part.rows,
      X_STRIDE: xStride,
      Y_STRIDE: yStride,
      RESIDUAL: residual,
    };
    const kernel = await gpu.kernel("exact/linear.wgsl", constants, label);
    const buffers = { x, weights: part.buffer, y, ...(matrix.scales && { scales: matrix.scales }) };
    const bytes = part.rows * matrix.stride * FORMAT_BYTES[matrix.format];
    const cost = { bytes, flops: 2 * tokens * part.rows * matrix.cols };
    dispatches.push(kernel.dispatch(buffers, [Math.ceil(part.rows / ROWS_PER_WORKGROUP), tokens, 1], cost, label));
  }
  return dispatches;
}

/** h = silu(W_gate x) * (W_up x) for each slot's expert: one dispatch for each set of pages that can be bound together, usually one. */
export async function exactExpertsGateUp(
  gpu: GpuContext,
  spec: Omit<ExpertsGateUpFewSpec, "norm" | "variant">,
): Promise<readonly Dispatch[]> {
  const { group, slots, routing, x, xStride, h, tokens, label = "exact experts gate-up" } = spec;
  const buffers = { x, routing, h, ...(group.gateUpScales && { scales: group.gateUpScales }) };
  const stride = roundUp(group.hidden, CHUNK);
  const dispatches: Dispatch[] = [];
  for (const set of pageSets(gpu, group.gateUp, Object.keys(buffers).length)) {
    const constants = {
      ...formatConstants(gpu, group.format),
      ...set.constants,
      WORKGROUP,
      WIDTH: group.width,
      CHUNKS: stride / CHUNK,
      SLOTS: slots,
      SCALE_ROWS: Math.ceil(group.width / SCALE_BLOCK),
      SCALE_COLUMNS: Math.ceil(group.hidden / SCALE_BLOCK),
      X_STRIDE: xStride,
      H_STRIDE: roundUp(group.width, CHUNK),
    };
    const kernel = await gpu.kernel("exact/gate_up.wgsl", constants, label);
    const grid = [Math.ceil(group.width / ROWS_PER_WORKGROUP), slots, tokens] as const;
    const cost = expertCost(group, tokens * slots * set.share * 2 * group.width * stride);
    dispatches.push(kernel.dispatch({ ...buffers, ...set.buffers }, grid, cost, label));
  }
  return dispatches;
}

/** y (+)= the weighted sum over slots of W_down h: one dispatch for each set of pages that can be bound together, usually one. */
export async function exactExpertsDown(gpu: GpuContext, spec: Omit<ExpertsDownFewSpec, "variant">): Promise<readonly Dispatch[]> {
  const { group, slots, routing, h, y, yStride, residual, tokens, label = "exact experts down" } = spec;
  const buffers = { h, routing, y, ...(group.downScales && { scales: group.downScales }) };
  const stride = roundUp(group.width, CHUNK);
  const dispatches: Dispatch[] = [];
  for (const set of pageSets(gpu, group.down, Object.keys(buffers).length)) {
    const constants = {
      ...formatConstants(gpu, group.format),
      ...set.constants,
      WORKGROUP,
      HIDDEN: group.hidden,
      CHUNKS: stride / CHUNK,
      SLOTS: slots,
      SCALE_ROWS: Math.ceil(group.hidden / SCALE_BLOCK),
      SCALE_COLUMNS: Math.ceil(group.width / SCALE_BLOCK),
      Y_STRIDE: yStride,
      RESIDUAL: residual || dispatches.length > 0,
    };
    const kernel = await gpu.kernel("exact/down.wgsl", constants, label);
    const grid = [Math.ceil(group.hidden / ROWS_PER_WORKGROUP), tokens, 1] as const;
    const cost = expertCost(group, tokens * slots * set.share * group.hidden * stride);
    dispatches.push(kernel.dispatch({ ...buffers, ...set.buffers }, grid, cost, label));
  }
  return dispatches;
}

function expertCost(group: ExpertGroup, elements: number): { readonly bytes: number; readonly flops: number } {
  return { bytes: elements * FORMAT_BYTES[group.format], flops: 2 * elements };
}
