/** Norm, router logits and router of a batch in one dispatch (shaders/router/gate_many.wgsl), where the gate is small. */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import type { Step } from "../batch.ts";
import type { ExpertGroup } from "../experts.ts";
import { type ExpertGrouping, type HiddenHalves, expertTiles, hiddenConstants, ownBlocks } from "../expertsMany/grouping.ts";
import { type HalvesRows, halvesOutputConstants } from "../matrix/halves.ts";
import { FRAGMENT } from "../matrix/strips.ts";
import { type NormOperandsSpec, normOperandBuffers, normOperandConstants, normOperandCost } from "../rmsNorm/operands.ts";
import { type RouterSpec, routeConstants } from "../router/kernel.ts";
import { type RowTeams, batchTeamConstants } from "../rowTeams.ts";
import { type WeightMatrix, formatConstants, matrixBytes } from "../weights.ts";
import { readAhead } from "./readAhead.ts";

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

/** Pairs of scales that an invocation has under way at once. */
const MOST_SCALES_AHEAD = 8;
/** Bindings of a gate that places rows. */
const PLACED_BINDINGS = 13;

/** Where each token's row goes for its experts, grouped by them for `expertsGateUpMany`: what `groupTokens` with HIDDEN makes, in the gate's dispatch. */
export interface PlacedRows {
  /** Its `blocks` are `ownBlocks` of the tokens and of all experts, in which `rows` has a place for each row; tiles of 16 rows. */
  readonly grouping: ExpertGrouping;
  /** As `gateUpLayout` has them. */
  readonly to: HalvesRows;
  readonly hidden: HiddenHalves;
  /** Whose gate and up come next: the first of their weights are read meanwhile, where the device can bind them as well. */
  readonly group?: ExpertGroup | undefined;
  /** Of `placeBoardBytes`, zeros; zeros again when the dispatch has run. */
  readonly board: GPUBuffer;
}

/** x is normalized, and written in the forms asked for. */
export interface GateManySpec extends Omit<NormOperandsSpec, "add"> {
  /** In place of `halves`. */
  readonly placed?: PlacedRows | undefined;
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

/** Whether it can place rows as well. */
export function canPlaceRows(gpu: GpuContext, matrix: WeightMatrix): boolean {
  return canGateMany(gpu, matrix) && gpu.limits.maxStorageBuffersPerShaderStage >= PLACED_BINDINGS;
}

/** Bytes of the room in which workgroups that place rows meet. @param experts that rows are placed for */
export function placeBoardBytes(experts: number): number {
  return (experts + 1) * 4;
}

/** @throws RangeError if the numbers of experts, groups and slots do not fit each other, or the halves' layout not the rows, or what is placed not its room */
export async function gateMany(gpu: GpuContext, options: GateManySpec): Promise<readonly Dispatch[]> {
  const { matrix, spec, bias, routing, step, tokens, label = "gate" } = options;
  const [part] = matrix.parts;
  if (!part || !canGateMany(gpu, matrix))
    throw new RangeError(`Cannot gate by ${matrix.rows} rows of ${matrix.cols} in ${matrix.format} on this device`);
  const lanes = Math.min(32, gpu.dialect.subgroupSize);
  const teams = Math.min(MOST_TEAMS, Math.floor(gpu.limits.maxComputeInvocationsPerWorkgroup / lanes));
  const shape: RowTeams = { ...SHAPE, lanes, teams };
  const placed = options.placed && placedParts(options, options.placed, lanes);
  const next = options.placed?.group;
  const ahead = next && gpu.limits.maxStorageBuffersPerShaderStage > PLACED_BINDINGS ? readAhead(next, tokens) : undefined;
  const kernel = await gpu.kernel(
    "router/gate_many.wgsl",
    {
      ...formatConstants(gpu, matrix.format),
      ...batchTeamConstants(gpu, shape, 1, matrix),
      ...routeConstants(spec, bias !== undefined),
      ...normOperandConstants(options, teams * lanes),
      PLACED: placed !== undefined,
      ...placed?.constants,
      AHEAD: ahead !== undefined,
      ...ahead?.constants,
      SINGLE_SUBGROUP: teams === 1,
      TOKENS: 1,
      MAX_TOKENS: step.maxTokens,
    },
    label,
  );
  const norm = normOperandCost(options);
  const cost = { bytes: norm.bytes + matrixBytes(matrix), flops: norm.flops + 2 * tokens * matrix.rows * matrix.cols };
  const buffers = {
    ...normOperandBuffers(options),
    weights: part.buffer,
    batch: step.batch,
    routing,
    ...(bias && { bias }),
    ...placed?.buffers,
    ...ahead?.buffers,
  };
  return [kernel.dispatch(buffers, [tokens, 1 + (ahead?.readers ?? 0), 1], cost, label)];
}

/** @throws RangeError if buffers or layouts do not fit what is placed */
function placedParts({ spec, tokens, halves }: GateManySpec, { grouping, to, hidden, board }: PlacedRows, lanes: number) {
  const experts = spec.nRoutedExperts + spec.sharedSlots;
  const blocks = ownBlocks({ tokens, experts });
  const rows = FRAGMENT * blocks;
  if (halves) throw new RangeError("Cannot write halves by token where rows are placed for experts");
  const layouts = [to.layout, hidden.rows.layout];
  if (grouping.blocks !== blocks || grouping.tileRows !== FRAGMENT || layouts.some((each) => each.rows !== rows || each.blocks !== true))
    throw new RangeError(
      `Cannot place rows of ${tokens} tokens for ${experts} experts in ${JSON.stringify(layouts)}, expected ${blocks} blocks`,
    );
  const { tiles, rows: pairs } = grouping;
  const { tilesBytes } = expertTiles({ maxTokens: tokens, slots: spec.nActivatedExperts + spec.sharedSlots, experts, tileRows: FRAGMENT });
  if (pairs.size < rows * 4 || tiles.size < tilesBytes || board.size < placeBoardBytes(experts))
    throw new RangeError(
      `Cannot place ${tokens} tokens: rows, tiles and board take ${pairs.size}, ${tiles.size} and ${board.size} bytes, expected ${rows * 4}, ${tilesBytes} and ${placeBoardBytes(experts)}`,
    );
  const settled = hiddenConstants(to, hidden);
  return {
    constants: {
      HALVES: true,
      ...halvesOutputConstants(to.layout),
      ...settled,
      SCALES_AHEAD: Math.min(MOST_SCALES_AHEAD, Math.ceil(settled.SCALES / lanes)),
      EXPERT_COUNT: experts,
      EXPERT_BLOCKS: blocks / experts,
    },
    buffers: { halves: to.buffer, board, rows: pairs, tiles, scales: hidden.scales, hidden: hidden.rows.buffer },
  };
}
