/** Matrix times many vectors (shaders/matmul/matmul.wgsl): the product of prefill. Up to MATVEC_MAX_TOKENS tokens, matvec reads less. */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import type { Step } from "../batch.ts";
import type { MatvecSpec } from "../matvec/kernel.ts";
import { FORMAT_BYTES, SCALE_BLOCK, formatConstants } from "../weights.ts";

const TILE_ROWS = 64;

/** `tokens` is the count on the host, any number from 1; it only sizes the grid. */
export interface MatmulSpec extends Omit<MatvecSpec, "norm"> {
  /** Its count says which rows of y are written. */
  readonly step: Step;
  /** What that count is of: the batch's tokens (default) or its outputs. */
  readonly count?: "tokens" | "outputs";
}

/** y = W x: one dispatch for each part of the matrix. */
export async function matmul(gpu: GpuContext, spec: MatmulSpec): Promise<readonly Dispatch[]> {
  const { matrix, tokens, x, xStride, xOffset = 0, y, yStride, residual = false, step, count = "tokens", label = "matmul" } = spec;
  const tokensPerThread = tokens <= 32 ? 4 : 8;
  const dispatches: Dispatch[] = [];
  for (const part of matrix.parts) {
    const kernel = await gpu.kernel(
      "matmul/matmul.wgsl",
      {
        ...formatConstants(gpu, matrix.format),
        TOKENS_PER_THREAD: tokensPerThread,
        MAX_TOKENS: step.maxTokens,
        COUNT_OUTPUTS: count === "outputs",
        CHUNKS: matrix.stride / 16,
        SCALE_COLUMNS: Math.ceil(matrix.cols / SCALE_BLOCK),
        ROW_START: part.rowStart,
        ROW_COUNT: part.rows,
        X_STRIDE: xStride,
        X_OFFSET: xOffset,
        Y_STRIDE: yStride,
        RESIDUAL: residual,
      },
      label,
    );
    const buffers = { x, weights: part.buffer, y, batch: step.batch, ...(matrix.scales && { scales: matrix.scales }) };
    const bytes = part.rows * matrix.stride * FORMAT_BYTES[matrix.format];
    const cost = { bytes, flops: 2 * tokens * part.rows * matrix.cols };
    const grid = [Math.ceil(part.rows / TILE_ROWS), Math.ceil(tokens / (8 * tokensPerThread)), 1] as const;
    dispatches.push(kernel.dispatch(buffers, grid, cost, label));
  }
  return dispatches;
}
