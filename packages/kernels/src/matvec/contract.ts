/**
 * Tolerance: sums are f32, so an error of a few units in the last place of the largest partial sum; 2e-6 of the largest result, for K up to 300.
 */
import type { GpuContext } from "@shoal/gpu";
import {
  type ContractCase,
  assertClose,
  assertEqual,
  normals,
  padded,
  randomMatrix,
  runAndRead,
  seededRandom,
  unpadded,
  withBuffers,
} from "../testing/mod.ts";
import { type WeightFormat, roundUp } from "../weights.ts";
import { takeTurns } from "../rowTeams.ts";
import { supportedVariants } from "../variants.ts";
import { matvec } from "./kernel.ts";
import { linearReference, rmsNormReference } from "./reference.ts";
import { matvecVariants } from "./variants.ts";

interface Shape {
  readonly rows: number;
  readonly cols: number;
  readonly tokens?: number;
  readonly format?: WeightFormat;
  readonly norm?: boolean;
  readonly residual?: boolean;
  readonly partRows?: number;
  readonly xOffset?: number;
}

const SHAPES: readonly Shape[] = [
  { rows: 1, cols: 1 },
  { rows: 7, cols: 31 },
  { rows: 127, cols: 129 },
  { rows: 129, cols: 127, tokens: 2 },
  { rows: 300, cols: 260, tokens: 3, norm: true },
  { rows: 256, cols: 384, norm: true, residual: true },
  { rows: 64, cols: 200, tokens: 8, residual: true, xOffset: 128 },
  { rows: 261, cols: 96, partRows: 128 },
  { rows: 40, cols: 96, format: "bf16", norm: true },
  { rows: 9, cols: 23, format: "bf16", tokens: 4 },
  { rows: 33, cols: 50, format: "f16" },
  { rows: 33, cols: 50, format: "f32", tokens: 2 },
];

export const matvecContract: readonly ContractCase[] = SHAPES.map((shape, index) => ({
  name: `matvec() equals the f64 product for ${JSON.stringify(shape)}`,
  run: (gpu) => check(gpu, shape, index + 1),
}));

async function check(gpu: GpuContext, shape: Shape, seed: number): Promise<void> {
  const { rows, cols, tokens = 1, format = "fp8", norm = false, residual = false, partRows, xOffset = 0 } = shape;
  const random = seededRandom(seed);
  const epsilon = 1e-6;
  await withBuffers(gpu, async (keep) => {
    const { matrix, values } = randomMatrix(gpu, random, { rows, cols, format, ...(partRows && { partRows }) });
    for (const part of matrix.parts) keep(part.buffer);
    if (matrix.scales) keep(matrix.scales);
    const x = normals(random, tokens * cols);
    const gamma = normals(random, cols);
    const before = normals(random, tokens * rows);
    const width = roundUp(cols, 16);
    const xStride = width + xOffset + 16;
    const yStride = roundUp(rows, 16) + 16;
    const rowsOfX = new Float64Array(tokens * (cols + xOffset));
    for (let t = 0; t < tokens; t++) rowsOfX.set(x.subarray(t * cols, (t + 1) * cols), t * (cols + xOffset) + xOffset);
    const xBuffer = keep(gpu.upload("x", padded(rowsOfX, tokens, cols + xOffset, xStride), "activations"));
    const gammaBuffer = keep(gpu.upload("gamma", padded(gamma, 1, cols, width), "weights"));
    const input = { x: xBuffer, xStride, xOffset, ...(norm && { norm: { gamma: gammaBuffer, epsilon } }) };
    const spec = { matrix, tokens, ...input, yStride, residual };
    const lastPart = { format, tokens, rows: matrix.parts.at(-1)?.rows ?? 0, stride: matrix.stride };
    const runs = [];
    for (const { name } of takeTurns(supportedVariants(gpu, matvecVariants(gpu, lastPart)), seed)) {
      const y = keep(gpu.upload("y", padded(before, tokens, rows, yStride, 7), "activations"));
      runs.push({ name, y, dispatches: await matvec(gpu, { ...spec, y, variant: name }) });
    }
    const expected = linearReference(norm ? rmsNormReference(x, gamma, tokens, cols, epsilon) : x, values, tokens, rows, cols);
    if (residual) for (let i = 0; i < expected.length; i++) expected[i] = (expected[i] ?? 0) + (before[i] ?? 0);
    for (const { name, y, dispatches } of runs) {
      const words = await runAndRead(gpu, dispatches, y);
      const result = unpadded(words, tokens, rows, yStride);
      assertClose(result, expected, { abs: 1e-6, rel: 2e-6 }, `y of ${name}`);
      assertEqual(words.subarray(0, tokens * yStride), padded(result, tokens, rows, yStride, 7), `y of ${name} with its padding`);
    }
  });
}
