/**
 * Tolerance: WGSL's inverseSqrt is good to 2 units in the last place and the sum is f32: 1e-6 of the largest result. Summed exactly, the factor and two products are
 * rounded: two units of each result. The reference is matvec's.
 */
import type { GpuContext } from "@shoal/gpu";
import { rmsNormReference } from "../matvec/reference.ts";
import {
  type ContractCase,
  assertClose,
  assertEqual,
  assertNearest,
  normals,
  padded,
  runAndRead,
  seededRandom,
  unpadded,
  withBuffers,
} from "../testing/mod.ts";
import { roundUp } from "../weights.ts";
import { rmsNorm } from "./kernel.ts";

interface Shape {
  readonly cols: number;
  readonly tokens: number;
  readonly xOffset?: number;
  readonly yOffset?: number;
  readonly scale?: number;
  readonly exact?: boolean;
}

const SHAPES: readonly Shape[] = [
  { cols: 1, tokens: 1 },
  { cols: 31, tokens: 3, xOffset: 12, yOffset: 20 },
  { cols: 512, tokens: 5, xOffset: 64 },
  { cols: 1031, tokens: 2, scale: 1e-4 },
  { cols: 7168, tokens: 1, scale: 300 },
  { cols: 31, tokens: 40, exact: true },
  { cols: 1031, tokens: 3, scale: 1e-4, exact: true },
  { cols: 7168, tokens: 2, scale: 300, exact: true },
];

export const rmsNormContract: readonly ContractCase[] = SHAPES.map((shape, index) => ({
  name: `rmsNorm() equals the f64 norm for ${JSON.stringify(shape)}`,
  run: (gpu) => check(gpu, shape, index + 1),
}));

async function check(gpu: GpuContext, shape: Shape, seed: number): Promise<void> {
  const { cols, tokens, xOffset = 0, yOffset = 0, scale = 1, exact = false } = shape;
  const random = seededRandom(seed);
  await withBuffers(gpu, async (keep) => {
    const x = normals(random, tokens * cols, scale);
    const gamma = normals(random, cols);
    const xStride = roundUp(cols, 16) + roundUp(xOffset, 16);
    const yStride = roundUp(cols, 16) + roundUp(yOffset, 16);
    // Neighbours on both sides, which must not be read.
    const wide = new Float64Array(tokens * xStride).fill(1e9);
    for (let t = 0; t < tokens; t++) wide.set(x.subarray(t * cols, (t + 1) * cols), t * xStride + xOffset);
    const xBuffer = keep(gpu.upload("x", Float32Array.from(wide), "activations"));
    const gammaBuffer = keep(gpu.upload("gamma", padded(gamma, 1, cols, roundUp(cols, 16)), "weights"));
    const y = keep(gpu.upload("y", new Float32Array(tokens * yStride).fill(7), "activations"));
    const dispatches = await rmsNorm(gpu, {
      x: xBuffer,
      xStride,
      xOffset,
      gamma: gammaBuffer,
      epsilon: 1e-6,
      cols,
      y,
      yStride,
      yOffset,
      tokens,
      exact,
    });
    const result = await runAndRead(gpu, dispatches, y);
    const expected = rmsNormReference(x, gamma, tokens, cols, 1e-6);
    const actual = unpadded(result.subarray(yOffset), tokens, cols, yStride);
    if (exact) assertNearest(actual, expected, 2.1, "y");
    else assertClose(actual, expected, { abs: 1e-7, rel: 1e-6 }, "y");
    assertEqual(result.subarray(0, yOffset), new Float32Array(yOffset).fill(7), "what precedes y");
    const end = roundUp(cols, 4);
    assertEqual(result.subarray(yOffset + cols, yOffset + end), new Float32Array(end - cols), "padding");
    assertEqual(result.subarray(yOffset + end, yStride), new Float32Array(yStride - yOffset - end).fill(7), "what follows y");
  });
}
