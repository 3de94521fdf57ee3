/** Matrix times many vectors (shaders/matmul): batches and prefill. variants.ts says which shader. */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import type { Step } from "../batch.ts";
import type { MatvecSpec } from "../matvec/kernel.ts";
import { MOST_TILE_COLUMNS, halvesBytes, halvesConstants, splitHalves } from "../matrix/halves.ts";
import { chooseVariant } from "../variants.ts";
import { FORMAT_BYTES, SCALE_BLOCK, formatConstants } from "../weights.ts";
import type { MatmulVariant } from "./variant.ts";
import { matmulOperation, matmulTrials, matmulVariants } from "./variants.ts";

/** `tokens` is the count on the host, any number from 1; it only sizes the grid. */
export interface MatmulSpec extends Omit<MatvecSpec, "norm" | "variant"> {
  /** Its count says which rows of y are written. */
  readonly step: Step;
  /** What that count is of: the batch's tokens (default) or its outputs. */
  readonly count?: "tokens" | "outputs";
  /** For variants that split x: `halvesBytes` of its rows. Without it they do not run. */
  readonly halves?: GPUBuffer | undefined;
  /** By name, of matmulVariants(). */
  readonly variant?: string;
}

/**
 * y = W x: one dispatch for each part of the matrix, and before them one that splits x where the variant wants that.
 * @throws RangeError if a variant is asked for that the device cannot run
 */
export async function matmul(gpu: GpuContext, spec: MatmulSpec): Promise<readonly Dispatch[]> {
  const { matrix, tokens, x, xStride, xOffset = 0, y, yStride, residual = false, step, count = "tokens", label = "matmul" } = spec;
  const shape = { format: matrix.format, rows: matrix.rows, tokens };
  const listed = matmulVariants(gpu, shape);
  const all = spec.variant === undefined ? listed : [...listed, ...matmulTrials(gpu, shape)];
  const room = spec.halves?.size ?? 0;
  const splitRows = ({ halves }: MatmulVariant) => ({ rows: tokens, columns: matrix.stride, blocks: halves === "blocks" });
  const candidates = all.filter((variant) => !variant.halves || room >= halvesBytes(splitRows(variant)));
  const variant = chooseVariant(gpu, matmulOperation(shape), candidates, spec.variant);
  const { tileRows, tileTokens, tokensFirst = false } = variant;
  const dispatches: Dispatch[] = [];
  const rows = splitRows(variant);
  const halves = variant.halves ? spec.halves : undefined;
  if (halves)
    dispatches.push(await splitHalves(gpu, { ...rows, x, xStride, xOffset, format: matrix.format, halves, label: `${label} split` }));
  for (const part of matrix.parts) {
    const kernel = await gpu.kernel(
      variant.shader,
      {
        ...formatConstants(gpu, matrix.format),
        ...variant.constants,
        ...variant.deviceConstants?.(gpu, matrix),
        ...(halves && { ...halvesConstants(rows), RAGGED_COLUMNS: matrix.stride % MOST_TILE_COLUMNS !== 0 }),
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
    const input = halves ? { halves } : { x };
    const buffers = { ...input, weights: part.buffer, y, batch: step.batch, ...(matrix.scales && { scales: matrix.scales }) };
    const bytes = part.rows * matrix.stride * FORMAT_BYTES[matrix.format];
    const cost = { bytes, flops: 2 * tokens * part.rows * matrix.cols };
    const [byRows, byTokens] = [Math.ceil(part.rows / tileRows), Math.ceil(tokens / tileTokens)];
    // A dimension holds 65535 workgroups, which the rows of a vocabulary may exceed.
    const layers = Math.ceil(byRows / gpu.limits.maxComputeWorkgroupsPerDimension);
    const grid = tokensFirst ? ([byTokens, Math.ceil(byRows / layers), layers] as const) : ([byRows, byTokens, 1] as const);
    dispatches.push(kernel.dispatch(buffers, grid, cost, label));
  }
  return dispatches;
}
