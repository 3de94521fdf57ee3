/**
 * The chosen experts of a few tokens (shaders/experts/gate_up_few.wgsl, down_few.wgsl, gate_up_teams.wgsl, down_teams.wgsl): decoding, limited by the bytes of the weights. The routing is read on
 * the GPU; nothing depends on it here.
 */
import type { BufferRange, Dispatch, GpuContext, ShaderConstants } from "@shoal/gpu";
import { pageSets } from "../expertPages.ts";
import type { ExpertGroup } from "../experts.ts";
import { type TeamsVariant, onDevice, rowUnits, teamConstants, wholeRows } from "../rowTeams.ts";
import { chooseVariant } from "../variants.ts";
import { CHUNK, FORMAT_BYTES, SCALE_BLOCK, formatConstants, reductionConstants, roundUp } from "../weights.ts";
import { downVariants, expertsFewOperation, gateUpVariants } from "./variants.ts";

const ROWS_PER_WORKGROUP = 4;

interface ExpertsFewSpec {
  readonly group: ExpertGroup;
  /** Experts that each token takes. */
  readonly slots: number;
  /** [tokens, slots] of (expert, weight as f32 bits). */
  readonly routing: GPUBuffer;
  /** [tokens * slots, roundUp(width, 16)] f32, zero beyond the width. */
  readonly h: GPUBuffer;
  readonly tokens: number;
  /** One of `gateUpVariants` or `downVariants`, by name. */
  readonly variant?: string;
  readonly label?: string;
}

export interface ExpertsGateUpFewSpec extends ExpertsFewSpec {
  /** x [tokens, xStride] f32; xStride a multiple of 16. */
  readonly x: GPUBuffer;
  readonly xStride: number;
  /** RMSNorm of x first; gamma [roundUp(hidden, 16)] f32. */
  readonly norm?: { readonly gamma: BufferRange; readonly epsilon: number };
}

export interface ExpertsDownFewSpec extends ExpertsFewSpec {
  /** y [tokens, yStride] f32. */
  readonly y: GPUBuffer;
  readonly yStride: number;
  /** Adds to y instead of overwriting it. */
  readonly residual: boolean;
}

/** h = silu(W_gate x) * (W_up x) for each slot's expert: one dispatch for each set of pages that can be bound together, usually one. */
export async function expertsGateUpFew(gpu: GpuContext, spec: ExpertsGateUpFewSpec): Promise<readonly Dispatch[]> {
  const { group, slots, routing, x, xStride, norm, h, tokens, label = "experts gate-up" } = spec;
  const buffers = {
    x,
    routing,
    h,
    ...(group.gateUpScales && { scales: group.gateUpScales }),
    ...(norm && { gamma: norm.gamma }),
  };
  const stride = roundUp(group.hidden, CHUNK);
  const variant = chooseVariant(gpu, expertsFewOperation("gateUp", spec), gateUpVariants(gpu, spec), spec.variant);
  const shape = gateUpProgram(gpu, variant, spec, stride);
  const dispatches: Dispatch[] = [];
  for (const set of pageSets(gpu, group.gateUp, Object.keys(buffers).length)) {
    const kernel = await gpu.kernel(
      shape.path,
      {
        ...formatConstants(gpu, group.format),
        ...shape.constants,
        ...set.constants,
        HIDDEN: group.hidden,
        WIDTH: group.width,
        SLOTS: slots,
        SCALE_ROWS: Math.ceil(group.width / SCALE_BLOCK),
        SCALE_COLUMNS: Math.ceil(group.hidden / SCALE_BLOCK),
        X_STRIDE: xStride,
        H_STRIDE: roundUp(group.width, CHUNK),
        NORM: norm !== undefined,
        EPSILON: { f32: norm?.epsilon ?? 0 },
      },
      label,
    );
    const elements = tokens * slots * set.share * 2 * group.width * stride;
    const cost = { bytes: elements * FORMAT_BYTES[group.format], flops: 2 * elements };
    dispatches.push(kernel.dispatch({ ...buffers, ...set.buffers }, shape.grid, cost, label));
  }
  return dispatches;
}

/** y (+)= the weighted sum over slots of W_down h: one dispatch for each set of pages that can be bound together, usually one. */
export async function expertsDownFew(gpu: GpuContext, spec: ExpertsDownFewSpec): Promise<readonly Dispatch[]> {
  const { group, slots, routing, h, y, yStride, residual, tokens, label = "experts down" } = spec;
  const buffers = { h, routing, y, ...(group.downScales && { scales: group.downScales }) };
  const stride = roundUp(group.width, CHUNK);
  const variant = chooseVariant(gpu, expertsFewOperation("down", spec), downVariants(gpu, spec), spec.variant);
  const shape = downProgram(gpu, variant, spec, stride);
  const dispatches: Dispatch[] = [];
  for (const set of pageSets(gpu, group.down, Object.keys(buffers).length)) {
    const kernel = await gpu.kernel(
      shape.path,
      {
        ...formatConstants(gpu, group.format),
        ...shape.constants,
        ...set.constants,
        HIDDEN: group.hidden,
        SLOTS: slots,
        SCALE_ROWS: Math.ceil(group.hidden / SCALE_BLOCK),
        SCALE_COLUMNS: Math.ceil(group.width / SCALE_BLOCK),
        Y_STRIDE: yStride,
        RESIDUAL: residual || dispatches.length > 0,
      },
      label,
    );
    const elements = tokens * slots * set.share * group.hidden * stride;
    const cost = { bytes: elements * FORMAT_BYTES[group.format], flops: 2 * elements };
    dispatches.push(kernel.dispatch({ ...buffers, ...set.buffers }, shape.grid, cost, label));
  }
  return dispatches;
}

interface Program {
  readonly path: string;
  readonly constants: ShaderConstants;
  readonly grid: readonly [number, number, number];
}

function gateUpProgram(gpu: GpuContext, { teams, whole }: TeamsVariant, spec: ExpertsGateUpFewSpec, stride: number): Program {
  const { group, slots, tokens, norm } = spec;
  if (whole) {
    const { rowsPerWorkgroup, constants } = wholeRows(gpu, whole, { format: group.format, stride });
    const own = { LOADS: 2 * whole.rows, RAGGED_ROWS: group.width % rowsPerWorkgroup !== 0 };
    const grid = [tokens, Math.ceil(group.width / rowsPerWorkgroup), slots] as const;
    return { path: "experts/gate_up_whole.wgsl", constants: { ...constants, ...own }, grid };
  }
  if (!teams) {
    const constants = { ...reductionConstants(gpu), CHUNKS: stride / CHUNK };
    return { path: "experts/gate_up_few.wgsl", constants, grid: [Math.ceil(group.width / ROWS_PER_WORKGROUP), slots, tokens] };
  }
  const shape = onDevice(gpu, teams);
  const rowsPerWorkgroup = shape.rows * shape.teams;
  const units = rowUnits(group.format, stride, shape.columns);
  const constants = {
    ...teamConstants(gpu, shape, group.format, 2 * shape.rows + (norm ? 1 : 0)),
    LOADS: shape.unroll * 2 * shape.rows,
    UNITS: units,
    RAGGED_ROWS: group.width % rowsPerWorkgroup !== 0,
    RAGGED_UNITS: units % (shape.lanes * shape.split * shape.unroll) !== 0,
  };
  return { path: "experts/gate_up_teams.wgsl", constants, grid: [tokens, Math.ceil(group.width / rowsPerWorkgroup), slots] };
}

function downProgram(gpu: GpuContext, { teams, whole }: TeamsVariant, { group, tokens }: ExpertsDownFewSpec, stride: number): Program {
  if (whole) {
    const { rowsPerWorkgroup, constants } = wholeRows(gpu, whole, { format: group.format, stride });
    const own = { LOADS: whole.rows, RAGGED_ROWS: group.hidden % rowsPerWorkgroup !== 0 };
    const grid = [tokens, Math.ceil(group.hidden / rowsPerWorkgroup), 1] as const;
    return { path: "experts/down_whole.wgsl", constants: { ...constants, ...own }, grid };
  }
  if (!teams) {
    const constants = { ...reductionConstants(gpu), CHUNKS: stride / CHUNK };
    return { path: "experts/down_few.wgsl", constants, grid: [Math.ceil(group.hidden / ROWS_PER_WORKGROUP), tokens, 1] };
  }
  const shape = onDevice(gpu, teams);
  const rowsPerWorkgroup = shape.rows * shape.teams;
  const units = rowUnits(group.format, stride, shape.columns);
  const constants = {
    ...teamConstants(gpu, shape, group.format, shape.rows),
    LOADS: shape.unroll * shape.rows,
    UNITS: units,
    RAGGED_ROWS: group.hidden % rowsPerWorkgroup !== 0,
    RAGGED_UNITS: units % (shape.lanes * shape.unroll) !== 0,
  };
  return { path: "experts/down_teams.wgsl", constants, grid: [tokens, Math.ceil(group.hidden / rowsPerWorkgroup), 1] };
}
