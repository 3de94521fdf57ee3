/** Norm, router logits and router of a batch in one dispatch (shaders/router/gate_many.wgsl), where the gate is small. */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import type { Step } from "../batch.ts";
import { type NormOperandsSpec, normOperandBuffers, normOperandConstants, normOperandCost } from "../rmsNorm/operands.ts";
import { type RouterSpec, routeConstants } from "../router/kernel.ts";
import { type RowTeams, batchTeamConstants } from "../rowTeams.ts";
import { type WeightMatrix, formatConstants, matrixBytes } from "../weights.ts";

/** The most experts at a time for a subgroup, all of V2-Lite's 64 for the workgroup; eight loads under way. */
const SHAPE = { rows: 4, split: 1, unroll: 2, columns: 8 } as const;
const MOST_TEAMS = 16;
/** Subgroups narrower than this have too many rows each. */
const LEAST_LANES = 4;
/** Each token's workgroup reads the gate from the device's cache, in some 4 us: above, workgroups that share it do better. */
const MOST_BYTES = 2 ** 19;
/** A workgroup for each has room on a large GPU at once. */
const MOST_TOKENS = 128;
/** Of workgroup memory, for what lib/route.wgsl keeps and sums. */
const ROUTE_BYTES = 8192;

/** x is normalized, and written in the forms asked for. */
export interface GateManySpec extends Omit<NormOperandsSpec, "add"> {
  /** [nRoutedExperts, cols], in one part; not FP8. */
  readonly matrix: WeightMatrix;
  readonly spec: RouterSpec;
  /** eScoreCorrectionBias [nRoutedExperts] f32. */
  readonly bias?: GPUBuffer | undefined;
  /** Out: [tokens, nActivatedExperts + sharedSlots] of (expert, weight). */
  readonly routing: GPUBuffer;
  readonly step: Step;
}

/** Whether a device can run it for such a gate and so many tokens, and should. */
export function gatesManyTogether(gpu: GpuContext, matrix: WeightMatrix, tokens: number): boolean {
  return !gpu.adapter.isSoftware && tokens <= MOST_TOKENS && matrixBytes(matrix) <= MOST_BYTES && canGateMany(gpu, matrix);
}

/** Whether it can. */
export function canGateMany({ dialect, limits }: GpuContext, { format, cols, parts }: WeightMatrix): boolean {
  const fits = cols * 4 + ROUTE_BYTES <= limits.maxComputeWorkgroupStorageSize;
  return dialect.subgroups !== "none" && dialect.subgroupSize >= LEAST_LANES && fits && format !== "fp8" && parts.length === 1;
}

/** @throws RangeError if the numbers of experts, groups and slots do not fit each other, or the halves' layout not the rows */
export async function gateMany(gpu: GpuContext, options: GateManySpec): Promise<readonly Dispatch[]> {
  const { matrix, spec, bias, routing, step, tokens, label = "gate" } = options;
  const [part] = matrix.parts;
  if (!part || !canGateMany(gpu, matrix))
    throw new RangeError(`Cannot gate by ${matrix.rows} rows of ${matrix.cols} in ${matrix.format} on this device`);
  const lanes = Math.min(32, gpu.dialect.subgroupSize);
  const teams = Math.min(MOST_TEAMS, Math.floor(gpu.limits.maxComputeInvocationsPerWorkgroup / lanes));
  const shape: RowTeams = { ...SHAPE, lanes, teams };
  const kernel = await gpu.kernel(
    "router/gate_many.wgsl",
    {
      ...formatConstants(gpu, matrix.format),
      ...batchTeamConstants(gpu, shape, 1, matrix),
      ...routeConstants(spec, bias !== undefined),
      ...normOperandConstants(options, teams * lanes),
      SINGLE_SUBGROUP: teams === 1,
      TOKENS: 1,
      MAX_TOKENS: step.maxTokens,
    },
    label,
  );
  const norm = normOperandCost(options);
  const cost = { bytes: norm.bytes + matrixBytes(matrix), flops: norm.flops + 2 * tokens * matrix.rows * matrix.cols };
  const buffers = { ...normOperandBuffers(options), weights: part.buffer, batch: step.batch, routing, ...(bias && { bias }) };
  return [kernel.dispatch(buffers, [tokens, 1, 1], cost, label)];
}
