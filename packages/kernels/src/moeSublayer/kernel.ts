/** The MLP of a small MoE layer in one dispatch, for a few tokens: norm, choice of experts, and what these add to the residual stream (shaders/sublayer/moe.wgsl). */
import type { BufferRange, Dispatch, GpuContext } from "@shoal/gpu";
import type { Step } from "../batch.ts";
import { checkBoard } from "../board.ts";
import type { ExpertGroup } from "../experts.ts";
import { type RouterSpec, routeConstants } from "../router/kernel.ts";
import { FORMAT_BYTES, type WeightMatrix, formatConstants, matrixBytes } from "../weights.ts";
import { type MoeSublayerShape, moeSublayerVariant, moeTeams, vectorsOf } from "./variants.ts";

export interface MoeSublayerSpec {
  /** The gate's weights [nRoutedExperts, hidden], in one part; not FP8. */
  readonly gate: WeightMatrix;
  readonly spec: RouterSpec;
  /** eScoreCorrectionBias [nRoutedExperts] f32. */
  readonly bias?: GPUBuffer | undefined;
  /** The routed experts, then `sharedSlots` shared ones; a page each of gate and up, and of down. */
  readonly group: ExpertGroup;
  /** The residual stream [tokens, xStride] f32: read through the norm, and added to. */
  readonly x: GPUBuffer;
  readonly xStride: number;
  /** Of x's RMSNorm: [hidden] f32, or more. */
  readonly gamma: BufferRange;
  readonly epsilon: number;
  readonly tokens: number;
  readonly step: Step;
  /** Out: [tokens, nActivatedExperts + sharedSlots] of (expert, weight). */
  readonly routing: GPUBuffer;
  /** Of `moeBoardBytes`, zeros; zeros again when the dispatch has run. */
  readonly board: GPUBuffer;
  /** One of `moeSublayerVariants`, by name. */
  readonly variant?: string | undefined;
  readonly label?: string;
}

/** Bytes of the room in which workgroups meet. */
export function moeBoardBytes(spec: Pick<RouterSpec, "nActivatedExperts" | "sharedSlots">, hidden: number, tokens: number): number {
  return tokens * ((spec.nActivatedExperts + spec.sharedSlots) * hidden + 1) * 4;
}

/** Whether the device does better with one dispatch than with several. @throws RangeError if a variant is asked for that the device cannot run */
export function moeRunsWhole(gpu: GpuContext, { variant, ...shape }: MoeSublayerShape & Pick<MoeSublayerSpec, "variant">): boolean {
  return moeSublayerVariant(gpu, shape, variant).workgroup !== undefined;
}

/**
 * The dispatch, where `moeRunsWhole`.
 * @throws RangeError if gate, experts and the numbers of experts, groups and slots do not fit each other, or the board is too small, or the device does better with several dispatches, or a
 * variant is asked for that it cannot run
 */
export async function moeSublayer(gpu: GpuContext, options: MoeSublayerSpec): Promise<readonly Dispatch[]> {
  const { gate, spec, bias, group, x, xStride, gamma, epsilon, tokens, step, routing, board, label = "moe" } = options;
  const { workgroup } = moeSublayerVariant(gpu, options, options.variant);
  const [part, gateUpPage, downPage] = [gate.parts[0], group.gateUp[0], group.down[0]];
  if (workgroup === undefined || !part || !gateUpPage || !downPage)
    throw new RangeError("Cannot run a MoE layer in one dispatch: this device does better with several");
  const { format, count, hidden, width } = group;
  const slots = spec.nActivatedExperts + spec.sharedSlots;
  if (gate.rows !== spec.nRoutedExperts || gate.cols !== hidden || count !== spec.nRoutedExperts + spec.sharedSlots)
    throw new RangeError(
      `Cannot run ${count} experts of ${hidden} columns by a gate of ${gate.rows} rows and ${gate.cols} columns, expected ${spec.nRoutedExperts} rows and ${spec.sharedSlots} shared experts more`,
    );
  checkBoard("run experts", board, moeBoardBytes(spec, hidden, tokens));
  const teams = moeTeams(gpu, { gate, group }, workgroup);
  const kernel = await gpu.kernel(
    "sublayer/moe.wgsl",
    {
      ...formatConstants(gpu, format),
      ...routeConstants(spec, bias !== undefined),
      GATE_FORMAT: gate.format,
      GATE_VECTORS: vectorsOf(gate.format),
      EXPERT_VECTORS: vectorsOf(format),
      WORKGROUP: workgroup,
      MAX_TOKENS: step.maxTokens,
      HIDDEN: hidden,
      WIDTH: width,
      X_STRIDE: xStride,
      EPSILON: { f32: epsilon },
      LANES: teams.gateUp.lanes,
      CHUNKS: teams.gateUp.chunks,
      EACH: teams.gateUp.each,
      GATE_ROWS: teams.gate.rows,
      ROWS: teams.gateUp.rows,
      DOWN_LANES: teams.down.lanes,
      DOWN_CHUNKS: teams.down.chunks,
      DOWN_EACH: teams.down.each,
      DOWN_ROWS: teams.down.rows,
    },
    label,
  );
  const buffers = {
    x,
    gamma,
    gate: part.buffer,
    gate_up: gateUpPage.buffer,
    down: downPage.buffer,
    batch: step.batch,
    routing,
    board,
    ...(group.gateUpScales && { gate_up_scales: group.gateUpScales }),
    ...(group.downScales && { down_scales: group.downScales }),
    ...(bias && { bias }),
  };
  const elements = tokens * slots * 3 * width * hidden;
  const cost = { bytes: matrixBytes(gate) + elements * FORMAT_BYTES[format], flops: 2 * (tokens * gate.rows * hidden + elements) };
  return [kernel.dispatch(buffers, [slots, tokens, 1], cost, label)];
}
