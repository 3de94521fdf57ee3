/**
 * matmul by subgroup matrices where f16 has not the range: rows of x of very different magnitudes, outliers, scales of zero and far apart.
 *
 * Tolerance: 3e-5 of the largest result of each row by itself, or as much as the variant states; beside an outlier of 1e4 times a row's values they keep 2^-34 of the outlier.
 */
import { type GpuContext, e4m3ToNumber } from "@shoal/gpu";
import { halvesBuffer } from "../matrix/halves.ts";
import { linearReference } from "../matvec/reference.ts";
import {
  type ContractCase,
  assertClose,
  normals,
  padded,
  runAndRead,
  seededRandom,
  unpadded,
  uploadBatch,
  withBuffers,
} from "../testing/mod.ts";
import { supportedVariants } from "../variants.ts";
import { SCALE_BLOCK, type WeightMatrix } from "../weights.ts";
import { matmul } from "./kernel.ts";
import { matmulMatrixTrials, matmulMatrixVariants } from "./matrix.ts";

const ROWS = 160;
const COLS = 4 * SCALE_BLOCK;
const TOKENS = 24;
/** By blocks of weights, in turn. */
const SCALES = [1e-3, 0, 7e2, 3e-12, 1e-3];
/** What rows of x are multiplied by, in turn. */
const MAGNITUDES = [1, 30, 0.1, 1e-2];

export const matmulMatrixContract: readonly ContractCase[] = [
  {
    name: "matmul() by subgroup matrices keeps small rows beside large ones, and outliers",
    run: (gpu) => check(gpu, { magnitudes: MAGNITUDES, outlier: 1e4 }),
  },
  { name: "matmul() by subgroup matrices takes x of 1e-9", run: (gpu) => check(gpu, { magnitudes: [1e-9] }) },
  { name: "matmul() by subgroup matrices takes x of 1e9", run: (gpu) => check(gpu, { magnitudes: [1e9] }) },
  { name: "matmul() by subgroup matrices takes scales of zero and far apart", run: (gpu) => check(gpu, { blockScales: SCALES }) },
];

interface Extremes {
  readonly magnitudes?: readonly number[];
  readonly outlier?: number;
  readonly blockScales?: readonly number[];
}

async function check(gpu: GpuContext, { magnitudes = [1], outlier = 0, blockScales = [1e-3, 2e-3] }: Extremes): Promise<void> {
  const random = seededRandom(7);
  await withBuffers(gpu, async (keep) => {
    // Any code but the two that are no number.
    const codes = Uint8Array.from({ length: ROWS * COLS }, () => random.integer(127) | (random.integer(2) << 7));
    const blocks = COLS / SCALE_BLOCK;
    const scales = Float32Array.from(
      { length: Math.ceil(ROWS / SCALE_BLOCK) * blocks },
      (_, i) => blockScales[i % blockScales.length] ?? 0,
    );
    const matrix: WeightMatrix = {
      format: "fp8",
      rows: ROWS,
      cols: COLS,
      stride: COLS,
      parts: [{ buffer: keep(gpu.upload("weights", codes, "weights")), rowStart: 0, rows: ROWS }],
      scales: keep(gpu.upload("scales", scales, "weights")),
    };
    const values = Float64Array.from(codes, (code, i) => {
      const [row, column] = [Math.floor(i / COLS), i % COLS];
      return e4m3ToNumber(code) * (scales[Math.floor(row / SCALE_BLOCK) * blocks + Math.floor(column / SCALE_BLOCK)] ?? 0);
    });
    const x = normals(random, TOKENS * COLS).map((value, i) =>
      Math.fround(value * (magnitudes[Math.floor(i / COLS) % magnitudes.length] ?? 1)),
    );
    if (outlier > 0) x[3 * COLS + 40] = outlier;
    const xBuffer = keep(gpu.upload("x", padded(x, TOKENS, COLS, COLS), "activations"));
    const zeros = Array.from({ length: TOKENS }, () => 0);
    const step = uploadBatch(gpu, { tokens: zeros, positions: zeros, sequences: zeros, outputRows: [0] }, TOKENS);
    keep(step.batch);
    const shape = { format: "fp8", rows: ROWS, tokens: TOKENS } as const;
    const variants = supportedVariants(gpu, [...matmulMatrixVariants(gpu, shape), ...matmulMatrixTrials(gpu, shape)]);
    const halves = keep(halvesBuffer(gpu, { rows: TOKENS, columns: COLS }));
    const runs = await Promise.all(
      variants.map(async ({ name, tolerance = 0 }) => {
        const y = keep(gpu.buffer({ label: "y", size: TOKENS * ROWS * 4, kind: "activations" }));
        const spec = { matrix, tokens: TOKENS, halves, x: xBuffer, xStride: COLS, y, yStride: ROWS, step };
        return { name, y, tolerance, dispatches: await matmul(gpu, { ...spec, variant: name }) };
      }),
    );
    const expected = linearReference(x, values, TOKENS, ROWS, COLS);
    for (const { name, y, tolerance, dispatches } of runs) {
      const actual = unpadded(await runAndRead(gpu, dispatches, y), TOKENS, ROWS, ROWS);
      for (let t = 0; t < TOKENS; t++) {
        const row = (of: Float64Array): Float64Array => of.subarray(t * ROWS, (t + 1) * ROWS);
        assertClose(row(actual), row(expected), { abs: 0, rel: Math.max(3e-5, tolerance) }, `row ${t} of ${name}`);
      }
    }
  });
}
