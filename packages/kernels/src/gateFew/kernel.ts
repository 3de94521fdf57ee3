/** The gate of a MoE layer in one dispatch, for a few tokens: norm, experts' logits and choice (shaders/router/gate_few.wgsl). */
import type { BufferRange, Dispatch, GpuContext } from "@shoal/gpu";
import type { Step } from "../batch.ts";
import { checkBoard } from "../board.ts";
import { type RouterSpec, routeConstants } from "../router/kernel.ts";
import { onDevice, rowUnits, teamConstants } from "../rowTeams.ts";
import { FORMAT_BYTES, SCALE_BLOCK, type WeightMatrix, formatConstants } from "../weights.ts";
import { gateVariant } from "./variants.ts";

export interface GateFewSpec {
  /** The gate's weights [nRoutedExperts, hidden]. */
  readonly matrix: WeightMatrix;
  readonly spec: RouterSpec;
  readonly tokens: number;
  readonly step: Step;
  /** x [tokens, xStride] f32, zero up to the next multiple of 16 past `cols`. */
  readonly x: GPUBuffer;
  readonly xStride: number;
  /** Of x's RMSNorm: [stride of the matrix] f32. */
  readonly gamma: BufferRange;
  readonly epsilon: number;
  /** Out: the normed input [tokens, stride] f32, where others want it too. Another buffer than x. */
  readonly y?: { readonly buffer: GPUBuffer; readonly stride: number } | undefined;
  /** eScoreCorrectionBias [nRoutedExperts] f32. */
  readonly bias?: GPUBuffer;
  /** Out: [tokens, nActivatedExperts + sharedSlots] of (expert, weight). */
  readonly routing: GPUBuffer;
  /** Of `gateBoardBytes`, zeros; zeros again when the dispatch has run. */
  readonly board: GPUBuffer;
  /** One of `gateVariants`, by name. */
  readonly variant?: string;
  readonly label?: string;
}

/** Bytes of the room in which workgroups meet. */
export function gateBoardBytes(nRoutedExperts: number, tokens: number): number {
  return tokens * (nRoutedExperts + 1) * 4;
}

/** Whether the device does better with one dispatch than with several. @throws RangeError if a variant is asked for that the device cannot run */
export function gatesFewTogether(gpu: GpuContext, { matrix, variant }: Pick<GateFewSpec, "matrix" | "variant">): boolean {
  return gateVariant(gpu, matrix, variant).teams !== undefined;
}

/**
 * The dispatch, where `gatesFewTogether`.
 * @throws RangeError if the matrix has another number of rows than there are experts, or the board is too small, or the numbers of experts, groups and slots do not fit each other, or the
 * device does better with several dispatches, or a variant is asked for that it cannot run
 */
export async function gateFew(gpu: GpuContext, options: GateFewSpec): Promise<readonly Dispatch[]> {
  const { matrix, spec, tokens, step, x, xStride, gamma, epsilon, y, bias, routing, board, label = "gate" } = options;
  const { teams } = gateVariant(gpu, matrix, options.variant);
  const [part] = matrix.parts;
  if (!teams || !part) throw new RangeError("Cannot gate in one dispatch: this device does better with several");
  if (matrix.rows !== spec.nRoutedExperts)
    throw new RangeError(`Cannot gate ${spec.nRoutedExperts} experts: the matrix has ${matrix.rows} rows`);
  checkBoard("gate", board, gateBoardBytes(spec.nRoutedExperts, tokens));
  const shape = onDevice(gpu, teams);
  const units = rowUnits(matrix.format, matrix.stride, shape.columns);
  const kernel = await gpu.kernel(
    "router/gate_few.wgsl",
    {
      ...formatConstants(gpu, matrix.format),
      ...teamConstants(gpu, shape, matrix.format, shape.rows + 1),
      ...routeConstants(spec, bias !== undefined),
      MAX_TOKENS: step.maxTokens,
      TOKENS: 1,
      UNITS: units,
      RAGGED_ROWS: matrix.rows % shape.rows !== 0,
      RAGGED_UNITS: units % (shape.lanes * shape.split * shape.unroll) !== 0,
      K: matrix.cols,
      SCALE_COLUMNS: Math.ceil(matrix.cols / SCALE_BLOCK),
      ROW_START: 0,
      ROW_COUNT: matrix.rows,
      X_STRIDE: xStride,
      X_OFFSET: 0,
      NORM: true,
      EPSILON: { f32: epsilon },
      NORMED: y !== undefined,
      ...(y && { NORMED_STRIDE: y.stride }),
    },
    label,
  );
  const buffers = {
    x,
    weights: part.buffer,
    gamma,
    batch: step.batch,
    routing,
    board,
    ...(matrix.scales && { scales: matrix.scales }),
    ...(bias && { bias }),
    ...(y && { normed: y.buffer }),
  };
  const weights = matrix.rows * matrix.stride;
  const cost = { bytes: weights * FORMAT_BYTES[matrix.format], flops: 2 * tokens * weights };
  return [kernel.dispatch(buffers, [Math.ceil(matrix.rows / shape.rows), tokens, 1], cost, label)];
}
