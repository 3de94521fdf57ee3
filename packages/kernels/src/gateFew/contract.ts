/**
 * Tolerance: the same experts in the same order, for inputs whose scores are 1e-4 apart; weights within 2e-5 of the largest, since a logit is a sum in f32 (matvec's
 * contract) that sigmoid and softmax hand on; the normed row as rmsNorm's contract has it.
 */
import type { GpuContext } from "@shoal/gpu";
import { linearReference, rmsNormReference } from "../matvec/reference.ts";
import type { RouterSpec } from "../router/kernel.ts";
import { type RoutedToken, routerReference } from "../router/reference.ts";
import {
  type ContractCase,
  assertClose,
  assertEqual,
  normals,
  padded,
  randomMatrix,
  seededRandom,
  unpadded,
  uploadBatch,
  withBuffers,
} from "../testing/mod.ts";
import { supportedVariants } from "../variants.ts";
import { type WeightFormat, roundUp } from "../weights.ts";
import { gateBoardBytes, gateFew } from "./kernel.ts";
import { gateVariants } from "./variants.ts";

interface Shape {
  readonly name: string;
  readonly spec: RouterSpec;
  readonly cols: number;
  readonly tokens: number;
  readonly format: WeightFormat;
  readonly bias?: boolean;
  readonly normed?: boolean;
  /** Of x. */
  readonly fill?: number;
}

const V3: RouterSpec = {
  nRoutedExperts: 256,
  nActivatedExperts: 8,
  nExpertGroups: 8,
  topkGroup: 4,
  scoreFunc: "sigmoid",
  groupScore: "top2sum",
  normTopkProb: true,
  routedScalingFactor: 2.5,
  sharedSlots: 1,
};
const V2: RouterSpec = {
  ...V3,
  nRoutedExperts: 64,
  nActivatedExperts: 6,
  nExpertGroups: 1,
  topkGroup: 1,
  scoreFunc: "softmax",
  groupScore: "max",
  normTopkProb: false,
  routedScalingFactor: 1,
  sharedSlots: 2,
};

const SHAPES: readonly Shape[] = [
  { name: "V3's 256 experts", spec: V3, cols: 520, tokens: 3, format: "bf16", bias: true, normed: true },
  { name: "V2-Lite's 64 experts", spec: V2, cols: 260, tokens: 4, format: "bf16", normed: true },
  {
    name: "13 experts of ragged rows",
    spec: { ...V2, nRoutedExperts: 13, nActivatedExperts: 3 },
    cols: 131,
    tokens: 2,
    format: "fp8",
    bias: true,
  },
  {
    name: "12 experts in 3 groups, wider than they are many",
    spec: { ...V3, nRoutedExperts: 12, nActivatedExperts: 3, nExpertGroups: 3, topkGroup: 2, sharedSlots: 0 },
    cols: 1031,
    tokens: 1,
    format: "f32",
    normed: true,
  },
];

const NAN: Shape = { name: "NaN", spec: V3, cols: 64, tokens: 2, format: "bf16", fill: Number.NaN };

export const gateFewContract: readonly ContractCase[] = [
  ...SHAPES.map((shape, index) => ({
    name: `gateFew() chooses and norms like the f64 references: ${shape.name}`,
    run: (gpu: GpuContext) => check(gpu, shape, index + 1),
  })),
  { name: "gateFew() fills every slot with a different expert when the input is NaN", run: (gpu) => check(gpu, NAN, SHAPES.length + 1) },
];

const EPSILON = 1e-6;
/** Of scores whose order decides, relative: below, sums in f32 may turn it. */
const SURE = 1e-4;
const RUNS = 2;

async function check(gpu: GpuContext, shape: Shape, seed: number): Promise<void> {
  const { spec, cols, tokens, format, bias: biased = false, normed = false, fill } = shape;
  const random = seededRandom(seed);
  const experts = spec.nRoutedExperts;
  const slots = spec.nActivatedExperts + spec.sharedSlots;
  await withBuffers(gpu, async (keep) => {
    const { matrix, values } = randomMatrix(gpu, random, { rows: experts, cols, format });
    for (const part of matrix.parts) keep(part.buffer);
    if (matrix.scales) keep(matrix.scales);
    const together = supportedVariants(gpu, gateVariants(gpu, matrix)).filter(({ teams }) => teams !== undefined);
    // Software adapters take seconds to compile each.
    const variants = gpu.adapter.isSoftware ? together.filter((_, index) => index === seed % together.length) : together;
    const gamma = normals(random, cols);
    const bias = biased ? Float64Array.from({ length: experts }, () => Math.fround(0.3 * random.uniform())) : undefined;
    const x = new Float64Array(tokens * cols);
    const expectedNormed = new Float64Array(tokens * cols);
    const routed: RoutedToken[] = [];
    while (routed.length < tokens) {
      const row = fill === undefined ? normals(random, cols) : new Float64Array(cols).fill(fill);
      const input = rmsNormReference(row, gamma, 1, cols, EPSILON);
      const token = routerReference(linearReference(input, values, 1, experts, cols), bias, spec);
      if (fill === undefined && token.margin < SURE) continue;
      x.set(row, routed.length * cols);
      expectedNormed.set(input, routed.length * cols);
      routed.push(token);
    }

    // A row more than the batch has tokens: what belongs to it stays as it is.
    const rows = tokens + 1;
    const width = roundUp(cols, 16);
    const [xStride, stride] = [width + 16, width + 32];
    const zeros = Array.from({ length: tokens }, () => 0);
    const step = uploadBatch(gpu, { tokens: zeros, positions: zeros, sequences: zeros, outputRows: [] }, rows);
    keep(step.batch);
    const xBuffer = keep(gpu.buffer({ label: "x", size: rows * xStride * 4, kind: "activations" }));
    gpu.write(xBuffer, 0, padded(x, tokens, cols, xStride));
    const gammaBuffer = keep(gpu.upload("gamma", padded(gamma, 1, cols, width), "weights"));
    const biasBuffer = bias && keep(gpu.upload("bias", Float32Array.from(bias), "weights"));
    const runs = [];
    for (const { name: variant } of variants) {
      const board = keep(gpu.buffer({ label: "board", size: gateBoardBytes(experts, rows), kind: "activations" }));
      const routing = keep(gpu.upload("routing", new Uint32Array(rows * slots * 2).fill(77), "activations"));
      const out = keep(gpu.upload("normed", new Float32Array(rows * stride).fill(7), "activations"));
      const dispatches = await gateFew(gpu, {
        matrix,
        spec,
        tokens: rows,
        step,
        x: xBuffer,
        xStride,
        gamma: gammaBuffer,
        epsilon: EPSILON,
        ...(normed && { y: { buffer: out, stride } }),
        ...(biasBuffer && { bias: biasBuffer }),
        routing,
        board,
        variant,
      });
      runs.push({ variant, board, routing, out, dispatches });
    }
    for (const { variant, board, routing, out, dispatches } of runs) {
      // Each run finds the board as the one before left it.
      gpu.submit(Array.from({ length: RUNS }, () => dispatches).flat());
      const bytes = await gpu.read(routing);
      const [words, floats] = [new Uint32Array(bytes), new Float32Array(bytes)];
      const pairs = Array.from({ length: tokens * slots }, (_, i) => i);
      const chosen = pairs.map((i) => words[i * 2] ?? 0);
      if (fill === undefined) {
        assertEqual(
          chosen,
          routed.flatMap((token) => token.experts),
          `experts of ${variant}`,
        );
        const weights = pairs.map((i) => floats[i * 2 + 1] ?? 0);
        assertClose(
          weights,
          routed.flatMap((token) => token.weights),
          { abs: 0, rel: 2e-5 },
          `weights of ${variant}`,
        );
      } else
        for (let t = 0; t < tokens; t++)
          assertEqual([new Set(chosen.slice(t * slots, (t + 1) * slots)).size], [slots], `experts of ${variant}`);
      assertEqual(
        words.subarray(tokens * slots * 2, rows * slots * 2),
        Array.from({ length: slots * 2 }, () => 77),
        `the row beyond the batch of ${variant}`,
      );
      assertEqual(new Uint32Array(await gpu.read(board)), new Uint32Array(board.size / 4), `the board after ${variant}`);
      const written = new Float32Array(await gpu.read(out));
      const actual = unpadded(written, tokens, cols, stride);
      const untouched = new Float32Array(rows * stride).fill(7);
      if (!normed) assertEqual(written, untouched, `normed of ${variant}, which was not asked for`);
      else {
        assertClose(actual, expectedNormed, { abs: 1e-7, rel: 1e-6 }, `normed of ${variant}`);
        const vectors = roundUp(cols, 4);
        for (let t = 0; t < tokens; t++) {
          untouched.set(written.subarray(t * stride, t * stride + cols), t * stride);
          untouched.fill(0, t * stride + cols, t * stride + vectors);
        }
        assertEqual(written, untouched, `normed of ${variant} with its padding`);
      }
    }
  });
}
