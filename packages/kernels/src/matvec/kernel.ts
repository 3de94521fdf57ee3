/** Matrix times a few vectors (shaders/matvec/): the product of decoding, limited by the bytes of the weights. */
import type { BufferRange, Dispatch, GpuContext, ShaderConstants } from "@shoal/gpu";
import { type TeamsVariant, onDevice, rowUnits, teamConstants, wholeRows } from "../rowTeams.ts";
import { chooseVariant } from "../variants.ts";
import { FORMAT_BYTES, type WeightMatrix, type WeightPart, SCALE_BLOCK, formatConstants, reductionConstants } from "../weights.ts";
import { matvecOperation, matvecVariants } from "./variants.ts";

/** More tokens than this go through matmul. */
export const MATVEC_MAX_TOKENS = 8;

const ROWS_PER_WORKGROUP = 4;

export interface MatvecSpec {
  readonly matrix: WeightMatrix;
  /** 1 to MATVEC_MAX_TOKENS. */
  readonly tokens: number;
  /** x [tokens, xStride] f32, from column `xOffset` on; both multiples of 4, zero up to the next multiple of 16 past `cols`. */
  readonly x: GPUBuffer;
  readonly xStride: number;
  readonly xOffset?: number;
  /** y [tokens, yStride] f32; a range of a buffer places the output in wider rows. */
  readonly y: BufferRange;
  readonly yStride: number;
  /** Adds to y instead of overwriting it. */
  readonly residual?: boolean;
  /** RMSNorm of x first; gamma [stride of the matrix] f32. */
  readonly norm?: { readonly gamma: BufferRange; readonly epsilon: number };
  /** One of `matvecVariants`, by name. */
  readonly variant?: string;
  readonly label?: string;
}

/** y = W x: one dispatch for each part of the matrix. */
export async function matvec(gpu: GpuContext, spec: MatvecSpec): Promise<readonly Dispatch[]> {
  const { matrix, tokens, x, y, norm, label = "matvec" } = spec;
  const dispatches: Dispatch[] = [];
  for (const part of matrix.parts) {
    const shape = { format: matrix.format, tokens, rows: part.rows, stride: matrix.stride };
    const variant = chooseVariant(gpu, matvecOperation(shape), matvecVariants(gpu, shape), spec.variant);
    const { path, constants, rowsPerWorkgroup } = program(gpu, variant, spec, part);
    const together = variant.apart === true ? 1 : tokens;
    const kernel = await gpu.kernel(path, { ...commonConstants(gpu, spec, part), TOKENS: together, ...constants }, label);
    const buffers = {
      x,
      weights: part.buffer,
      y,
      ...(matrix.scales && { scales: matrix.scales }),
      ...(norm && { gamma: norm.gamma }),
    };
    const bytes = part.rows * matrix.stride * FORMAT_BYTES[matrix.format];
    const cost = { bytes, flops: 2 * tokens * part.rows * matrix.cols };
    dispatches.push(kernel.dispatch(buffers, [Math.ceil(part.rows / rowsPerWorkgroup), tokens / together, 1], cost, label));
  }
  return dispatches;
}

interface Program {
  readonly path: string;
  readonly constants: ShaderConstants;
  readonly rowsPerWorkgroup: number;
}

function program(
  gpu: GpuContext,
  { teams, whole, apart = false }: TeamsVariant,
  { matrix, tokens, norm }: MatvecSpec,
  part: WeightPart,
): Program {
  if (whole) {
    const { rowsPerWorkgroup, constants } = wholeRows(gpu, whole, matrix);
    const ragged = { RAGGED_ROWS: part.rows % rowsPerWorkgroup !== 0 };
    return { path: "matvec/whole.wgsl", constants: { ...constants, ...ragged }, rowsPerWorkgroup };
  }
  if (!teams) {
    const constants = { ...reductionConstants(gpu), CHUNKS: matrix.stride / 16 };
    return { path: "matvec/matvec.wgsl", constants, rowsPerWorkgroup: ROWS_PER_WORKGROUP };
  }
  const shape = onDevice(gpu, teams);
  const rowsPerWorkgroup = shape.rows * shape.teams;
  const units = rowUnits(matrix.format, matrix.stride, shape.columns);
  const constants = {
    ...teamConstants(gpu, shape, matrix.format, (apart ? 1 : tokens) * (shape.rows + (norm ? 1 : 0))),
    UNITS: units,
    RAGGED_ROWS: part.rows % rowsPerWorkgroup !== 0,
    RAGGED_UNITS: units % (shape.lanes * shape.split * shape.unroll) !== 0,
  };
  return { path: "matvec/teams.wgsl", constants, rowsPerWorkgroup };
}

function commonConstants(gpu: GpuContext, spec: MatvecSpec, part: WeightPart): ShaderConstants {
  const { matrix, xStride, xOffset = 0, yStride, residual = false, norm } = spec;
  return {
    ...formatConstants(gpu, matrix.format),
    K: matrix.cols,
    SCALE_COLUMNS: Math.ceil(matrix.cols / SCALE_BLOCK),
    ROW_START: part.rowStart,
    ROW_COUNT: part.rows,
    X_STRIDE: xStride,
    X_OFFSET: xOffset,
    Y_STRIDE: yStride,
    RESIDUAL: residual,
    NORM: norm !== undefined,
    EPSILON: { f32: norm?.epsilon ?? 0 },
  };
}
