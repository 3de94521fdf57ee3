/** Matrix times a few vectors (shaders/matvec/matvec.wgsl): the product of decoding, limited by the bytes of the weights. */
import type { BufferRange, Dispatch, GpuContext } from "@shoal/gpu";
import { FORMAT_BYTES, type WeightMatrix, SCALE_BLOCK, formatConstants, reductionConstants } from "../weights.ts";

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
  readonly norm?: { readonly gamma: GPUBuffer; readonly epsilon: number };
  readonly label?: string;
}

/** y = W x: one dispatch for each part of the matrix. */
export async function matvec(gpu: GpuContext, spec: MatvecSpec): Promise<readonly Dispatch[]> {
  const { matrix, tokens, x, xStride, xOffset = 0, y, yStride, residual = false, norm, label = "matvec" } = spec;
  const dispatches: Dispatch[] = [];
  for (const part of matrix.parts) {
    const kernel = await gpu.kernel(
      "matvec/matvec.wgsl",
      {
        ...formatConstants(gpu, matrix.format),
        ...reductionConstants(gpu),
        TOKENS: tokens,
        K: matrix.cols,
        CHUNKS: matrix.stride / 16,
        SCALE_COLUMNS: Math.ceil(matrix.cols / SCALE_BLOCK),
        ROW_START: part.rowStart,
        ROW_COUNT: part.rows,
        X_STRIDE: xStride,
        X_OFFSET: xOffset,
        Y_STRIDE: yStride,
        RESIDUAL: residual,
        NORM: norm !== undefined,
        EPSILON: { f32: norm?.epsilon ?? 0 },
      },
      label,
    );
    const buffers = {
      x,
      weights: part.buffer,
      y,
      ...(matrix.scales && { scales: matrix.scales }),
      ...(norm && { gamma: norm.gamma }),
    };
    const bytes = part.rows * matrix.stride * FORMAT_BYTES[matrix.format];
    const cost = { bytes, flops: 2 * tokens * part.rows * matrix.cols };
    dispatches.push(kernel.dispatch(buffers, [Math.ceil(part.rows / ROWS_PER_WORKGROUP), 1, 1], cost, label));
  }
  return dispatches;
}
