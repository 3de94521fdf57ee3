/**
 * matmul by subgroup matrices where f16 has not the range: rows of x of very different magnitudes, outliers, scales of zero and far apart, BF16 weights of any magnitude.
 *
 * Tolerance: 3e-5 of the largest result of each row by itself, or as much as the variant states; beside an outlier of 1e4 times a row's values they keep 2^-34 of the outlier.
 */
import { type GpuContext, e4m3ToNumber } from "@shoal/gpu";
import { halvesBuffer } from "../matrix/halves.ts";
import { FRAGMENT } from "../matrix/strips.ts";
import { linearReference } from "../matvec/reference.ts";
import {
  type ContractCase,
  assertClose,
  normals,
  padded,
  runAndRead,
  seededRandom,
  storeWeight,
  unpadded,
  uploadBatch,
  withBuffers,
} from "../testing/mod.ts";
import { supportedVariants } from "../variants.ts";
import { FORMAT_BYTES, SCALE_BLOCK, type WeightMatrix } from "../weights.ts";
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
  { name: "matmul() by subgroup matrices takes bf16 weights of any magnitude", run: checkBf16 },
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
    const expected = linearReference(x, values, TOKENS, ROWS, COLS);
    for (const { name, tolerance, y } of await runVariants(gpu, keep, matrix, x)) {
      const actual = unpadded(await y(), TOKENS, ROWS, ROWS);
      for (let t = 0; t < TOKENS; t++) {
        const row = (of: Float64Array): Float64Array => of.subarray(t * ROWS, (t + 1) * ROWS);
        assertClose(row(actual), row(expected), { abs: 0, rel: Math.max(3e-5, tolerance) }, `row ${t} of ${name}`);
      }
    }
  });
}

type Keep = (buffer: GPUBuffer) => GPUBuffer;

interface Run {
  readonly name: string;
  readonly tolerance: number;
  readonly y: () => Promise<Float32Array>;
}

/** y of every variant by subgroup matrices that the device has. */
async function runVariants(gpu: GpuContext, keep: Keep, matrix: WeightMatrix, x: Float64Array): Promise<readonly Run[]> {
  const xBuffer = keep(gpu.upload("x", padded(x, TOKENS, COLS, COLS), "activations"));
  const zeros = Array.from({ length: TOKENS }, () => 0);
  const step = uploadBatch(gpu, { tokens: zeros, positions: zeros, sequences: zeros, outputRows: [0] }, TOKENS);
  keep(step.batch);
  const shape = { format: matrix.format, rows: ROWS, tokens: TOKENS };
  const variants = supportedVariants(gpu, [...matmulMatrixVariants(gpu, shape), ...matmulMatrixTrials(gpu, shape)]);
  const halves = keep(halvesBuffer(gpu, { rows: TOKENS, columns: COLS }));
  return Promise.all(
    variants.map(async ({ name, tolerance = 0 }) => {
      const y = keep(gpu.buffer({ label: "y", size: TOKENS * ROWS * 4, kind: "activations" }));
      const spec = { matrix, tokens: TOKENS, halves, x: xBuffer, xStride: COLS, y, yStride: ROWS, step };
      const dispatches = await matmul(gpu, { ...spec, variant: name });
      return { name, tolerance, y: () => runAndRead(gpu, dispatches, y) };
    }),
  );
}

/** Columns that share a magnitude of BF16 weights. */
const MAGNITUDE_COLUMNS = 32;
/** Of BF16 weights, by 16 rows: what they are multiplied by in turn, from some columns to the next. */
const BF16_MAGNITUDES = [
  [1],
  [1e-3, 0, 7e2, 3e-12, 1e-3],
  [1e-30, 1e-36],
  [1e25, 1e-25, 1e-3],
  [1e-25, 1e10, 1e-25, 1e-25, 1e10],
  [0, 1e-2, 1e-6],
  // The first half of the columns, where half of the tokens have nothing, and the second.
  Array.from({ length: COLS / MAGNITUDE_COLUMNS }, (_, i) => (i < COLS / MAGNITUDE_COLUMNS / 2 ? 1 : 1e-9)),
] as const;

/** Results of 16 rows are compared by themselves: those of others may be larger by far. */
async function checkBf16(gpu: GpuContext): Promise<void> {
  const random = seededRandom(8);
  await withBuffers(gpu, async (keep) => {
    const bytes = new Uint8Array(ROWS * COLS * FORMAT_BYTES.bf16);
    const values = Float64Array.from({ length: ROWS * COLS }, (_, i) => {
      const magnitudes = BF16_MAGNITUDES[Math.floor(i / COLS / FRAGMENT) % BF16_MAGNITUDES.length] ?? [];
      const magnitude = magnitudes[Math.floor((i % COLS) / MAGNITUDE_COLUMNS) % magnitudes.length] ?? 0;
      return storeWeight(bytes, i, random.normal() * magnitude, "bf16");
    });
    const matrix: WeightMatrix = {
      format: "bf16",
      rows: ROWS,
      cols: COLS,
      stride: COLS,
      parts: [{ buffer: keep(gpu.upload("weights", bytes, "weights")), rowStart: 0, rows: ROWS }],
    };
    const x = normals(random, TOKENS * COLS).map((value, i) =>
      Math.floor(i / COLS) % 2 === 1 && i % COLS < COLS / 2 ? 0 : Math.fround(value),
    );
    for (const { name, tolerance, y } of await runVariants(gpu, keep, matrix, x)) {
      const actual = unpadded(await y(), TOKENS, ROWS, ROWS);
      const expected = linearReference(x, values, TOKENS, ROWS, COLS);
      for (let start = 0; start < TOKENS * ROWS; start += FRAGMENT) {
        const some = (of: Float64Array): Float64Array => of.subarray(start, start + FRAGMENT);
        const where = `rows from ${start % ROWS} on for token ${Math.floor(start / ROWS)} of ${name}`;
        assertClose(some(actual), some(expected), { abs: 0, rel: Math.max(3e-5, tolerance) }, where);
      }
    }
  });
}
