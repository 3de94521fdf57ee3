/**
 * Tolerance: an fp8 weight times its scale is rounded to f32, and sums are f32, so 3e-6 of the largest result, for K up to 300. The
 * reference is matvec's.
 * Subgroup matrices round more (../matrixTiles.ts). Every variant that the device supports runs in the shape that has it all; of the others
 * each takes some, for compiling them is what takes time.
 */
import type { GpuContext } from "@shoal/gpu";
import { halvesBuffer } from "../matrix/halves.ts";
import { linearReference } from "../matvec/reference.ts";
import {
  type ContractCase,
  assertClose,
  assertEqual,
  normals,
  oneIn,
  padded,
  randomMatrix,
  runAndRead,
  seededRandom,
  uploadBatch,
  unpadded,
  withBuffers,
} from "../testing/mod.ts";
import { type WeightFormat, roundUp } from "../weights.ts";
import { supportedVariants } from "../variants.ts";
import { matmul } from "./kernel.ts";
import { matmulTrials, matmulVariants } from "./variants.ts";
import type { MatmulVariant } from "./variant.ts";

interface Shape {
  readonly rows: number;
  readonly cols: number;
  readonly tokens: number;
  readonly format?: WeightFormat;
  readonly residual?: boolean;
  readonly partRows?: number;
  readonly xOffset?: number;
  readonly outputs?: boolean;
  readonly everyVariant?: boolean;
  /** Variants to be had by name only as well. */
  readonly trials?: boolean;
}

const SHAPES: readonly Shape[] = [
  { rows: 1, cols: 1, tokens: 1 },
  { rows: 7, cols: 31, tokens: 13 },
  { rows: 129, cols: 127, tokens: 31, residual: true },
  { rows: 127, cols: 129, tokens: 33 },
  { rows: 64, cols: 256, tokens: 65, xOffset: 128 },
  { rows: 261, cols: 300, tokens: 67, partRows: 128, everyVariant: true },
  { rows: 130, cols: 300, tokens: 43, xOffset: 16, residual: true, everyVariant: true, trials: true },
  { rows: 63, cols: 50, tokens: 9, format: "bf16", outputs: true, trials: true },
  { rows: 65, cols: 33, tokens: 64, format: "f16", trials: true },
  { rows: 40, cols: 48, tokens: 11, format: "f32", residual: true },
];

export const matmulContract: readonly ContractCase[] = SHAPES.map((shape, index) => ({
  name: `matmul() equals the f64 product for ${JSON.stringify(shape)}`,
  run: (gpu) => check(gpu, shape, index + 1),
}));

async function check(gpu: GpuContext, shape: Shape, seed: number): Promise<void> {
  const { rows, cols, tokens, format = "fp8", residual = false, partRows, xOffset = 0, outputs = false } = shape;
  const random = seededRandom(seed);
  await withBuffers(gpu, async (keep) => {
    const { matrix, values } = randomMatrix(gpu, random, { rows, cols, format, ...(partRows && { partRows }) });
    for (const part of matrix.parts) keep(part.buffer);
    if (matrix.scales) keep(matrix.scales);
    const x = normals(random, tokens * cols);
    // One row more, which must stay as it is.
    const before = normals(random, (tokens + 1) * rows);
    const xStride = roundUp(cols, 16) + xOffset + 16;
    const yStride = roundUp(rows, 16) + 16;
    const rowsOfX = new Float64Array(tokens * (cols + xOffset));
    for (let t = 0; t < tokens; t++) rowsOfX.set(x.subarray(t * cols, (t + 1) * cols), t * (cols + xOffset) + xOffset);
    const xBuffer = keep(gpu.upload("x", padded(rowsOfX, tokens, cols + xOffset, xStride), "activations"));
    const y = keep(gpu.upload("y", padded(before, tokens + 1, rows, yStride), "activations"));
    const zeros = Array.from({ length: tokens }, () => 0);
    const step = uploadBatch(
      gpu,
      outputs
        ? { tokens: [0], positions: [0], sequences: [0], outputRows: zeros }
        : { tokens: zeros, positions: zeros, sequences: zeros, outputRows: [0] },
      tokens,
    );
    keep(step.batch);
    const count = outputs ? ("outputs" as const) : ("tokens" as const);
    const halves = keep(halvesBuffer(gpu, { rows: tokens, columns: cols }));
    const spec = { matrix, tokens, halves, x: xBuffer, xStride, xOffset, y, yStride, residual, step, count };
    const products = await Promise.all(
      someVariants(gpu, shape, seed).map(async ({ name, tolerance = 3e-6 }) => ({
        name,
        tolerance,
        dispatches: await matmul(gpu, { ...spec, variant: name }),
      })),
    );
    const expected = linearReference(x, values, tokens, rows, cols);
    if (residual) for (let i = 0; i < expected.length; i++) expected[i] = (expected[i] ?? 0) + (before[i] ?? 0);
    for (const { name, tolerance, dispatches } of products) {
      gpu.write(y, 0, padded(before, tokens + 1, rows, yStride));
      const all = unpadded(await runAndRead(gpu, dispatches, y), tokens + 1, rows, yStride);
      assertClose(all.subarray(0, tokens * rows), expected, { abs: 1e-6, rel: tolerance }, `y of ${name}`);
      assertEqual(all.subarray(tokens * rows), before.subarray(tokens * rows), `the row after the last of ${name}`);
    }
  });
}

/** Of the variants that the device supports: all of them in the shapes that have them all, on software adapters half of them in each of the two; elsewhere some. */
function someVariants(gpu: GpuContext, { format = "fp8", everyVariant = false, ...rest }: Shape, turn: number): readonly MatmulVariant[] {
  const shape = { format, ...rest };
  const trials = shape.trials ? matmulTrials(gpu, shape) : [];
  const variants = supportedVariants(gpu, [...matmulVariants(gpu, shape), ...trials]).toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const every = gpu.adapter.isSoftware ? { all: 2, some: 7 } : { all: 1, some: 3 };
  return oneIn(everyVariant ? every.all : every.some, variants, turn);
}
