/** Matrix times many vectors (shaders/matmul): batches and prefill. variants.ts says which shader. */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import type { Step } from "../batch.ts";
import type { MatvecSpec } from "../matvec/kernel.ts";
import {
  type HalvesLayout,
  type HalvesRows,
  MOST_TILE_COLUMNS,
  halvesBytes,
  halvesConstants,
  sameLayout,
  splitHalves,
} from "../matrix/halves.ts";
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
  /** x as `matmulLayout` wants it, where that was written already: nothing is read of `x` then. */
  readonly written?: HalvesRows | undefined;
  /** By name, of matmulVariants(). */
  readonly variant?: string;
}

type Chosen = Pick<MatmulSpec, "matrix" | "tokens" | "halves" | "variant">;

/** How the variant that `matmul` runs wants x: as f32, where that is undefined. */
export function matmulLayout(gpu: GpuContext, spec: Chosen): HalvesLayout | undefined {
  return layoutOf(choose(gpu, spec), spec);
}

function layoutOf({ halves, products = 1 }: MatmulVariant, { matrix, tokens }: Chosen): HalvesLayout | undefined {
  const { format, stride: columns } = matrix;
  return !halves ? undefined : { rows: tokens, columns, blocks: halves === "blocks", format, products };
}

function choose(gpu: GpuContext, spec: Chosen): MatmulVariant {
  const { format, rows } = spec.matrix;
  const shape = { format, rows, tokens: spec.tokens };
  const listed = matmulVariants(gpu, shape);
  const all = spec.variant === undefined ? listed : [...listed, ...matmulTrials(gpu, shape)];
  const room = spec.halves?.size ?? 0;
  const candidates = all.filter((variant) => {
    const layout = layoutOf(variant, spec);
    return !layout || room >= halvesBytes(layout);
  });
  return chooseVariant(gpu, matmulOperation(shape), candidates, spec.variant);
}

/**
 * y = W x: one dispatch for each part of the matrix, and before them one that splits x where the variant wants that and nobody did.
 * @throws RangeError if a variant is asked for that the device cannot run, or if x was written in another way than it wants
 */
export async function matmul(gpu: GpuContext, spec: MatmulSpec): Promise<readonly Dispatch[]> {
  const { matrix, tokens, x, xStride, xOffset = 0, y, yStride, residual = false, step, count = "tokens", label = "matmul" } = spec;
  const variant = choose(gpu, spec);
  const { tileRows, tileTokens, tokensFirst = false } = variant;
  const dispatches: Dispatch[] = [];
  const layout = layoutOf(variant, spec);
  const { written } = spec;
  if (written && !(layout && sameLayout(layout, written.layout)))
    throw new RangeError(`Cannot multiply what was written as ${JSON.stringify(written.layout)} by ${variant.name}`);
  const halves = written?.buffer ?? (layout && spec.halves);
  if (layout && halves && !written)
    dispatches.push(await splitHalves(gpu, { ...layout, x, xStride, xOffset, halves, label: `${label} split` }));
  for (const part of matrix.parts) {
    const kernel = await gpu.kernel(
      variant.shader,
      {
        ...formatConstants(gpu, matrix.format),
        ...variant.constants,
        ...variant.deviceConstants?.(gpu, matrix),
        ...(layout && { ...halvesConstants(layout), RAGGED_COLUMNS: matrix.stride % MOST_TILE_COLUMNS !== 0 }),
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
        ...(variant.earlyResults !== undefined && { EARLY_RESULTS: residual && variant.earlyResults }),
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
