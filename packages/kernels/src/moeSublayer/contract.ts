/**
 * Tolerance: the same experts in the same order, and weights within 2e-5 of the largest, as gateFew's contract has them. What they multiply is a sum in f32 of what expertsFew's
 * contract allows 7e-6 of, gate and up and down together: so x is within 3e-5 of the most that its experts add, and within 1e-6 of itself, which is rounded once.
 */
import type { GpuContext } from "@shoal/gpu";
import type { Route } from "../expertsFew/reference.ts";
import { combineReference, downReference, gateUpReference } from "../expertsFew/reference.ts";
import { linearReference, rmsNormReference } from "../matvec/reference.ts";
import type { RouterSpec } from "../router/kernel.ts";
import { routerReference } from "../router/reference.ts";
import {
  type ContractCase,
  assertClose,
  assertEqual,
  normals,
  oneIn,
  padded,
  randomExperts,
  randomMatrix,
  seededRandom,
  unpadded,
  uploadBatch,
  withBuffers,
} from "../testing/mod.ts";
import { supportedVariants } from "../variants.ts";
import { type WeightFormat, roundUp } from "../weights.ts";
import { moeBoardBytes, moeSublayer } from "./kernel.ts";
import { moeSublayerVariants } from "./variants.ts";

interface Shape {
  readonly name: string;
  readonly spec: RouterSpec;
  readonly hidden: number;
  readonly width: number;
  readonly tokens: number;
  readonly format: WeightFormat;
  readonly gateFormat: WeightFormat;
  readonly bias?: boolean;
}

const V3: RouterSpec = {
  nRoutedExperts: 32,
  nActivatedExperts: 4,
  nExpertGroups: 4,
  topkGroup: 2,
  scoreFunc: "sigmoid",
  groupScore: "top2sum",
  normTopkProb: true,
  routedScalingFactor: 2.5,
  sharedSlots: 1,
};
const V2: RouterSpec = {
  ...V3,
  nRoutedExperts: 13,
  nActivatedExperts: 3,
  nExpertGroups: 1,
  topkGroup: 1,
  scoreFunc: "softmax",
  groupScore: "max",
  normTopkProb: false,
  routedScalingFactor: 1,
  sharedSlots: 2,
};

const SHAPES: readonly Shape[] = [
  { name: "32 experts in 4 groups", spec: V3, hidden: 256, width: 128, tokens: 2, format: "fp8", gateFormat: "bf16", bias: true },
  { name: "13 experts, all ragged", spec: V2, hidden: 136, width: 41, tokens: 1, format: "bf16", gateFormat: "f16" },
  {
    name: "rows of more chunks than a subgroup has lanes",
    spec: { ...V2, nRoutedExperts: 5, nActivatedExperts: 2, sharedSlots: 0 },
    hidden: 552,
    width: 131,
    tokens: 1,
    format: "fp8",
    gateFormat: "f32",
    bias: true,
  },
];

export const moeSublayerContract: readonly ContractCase[] = SHAPES.map((shape, index) => ({
  name: `moeSublayer() adds what the f64 references add: ${shape.name}`,
  run: (gpu: GpuContext) => check(gpu, shape, index + 1),
}));

const EPSILON = 1e-6;
/** Of scores whose order decides, relative: below, sums in f32 may turn it. */
const SURE = 1e-4;
/** What a column that is not x's holds. */
const FILL = 7;

async function check(gpu: GpuContext, shape: Shape, seed: number): Promise<void> {
  const { spec, hidden, width, tokens, format, gateFormat, bias: biased = false } = shape;
  const random = seededRandom(seed);
  const experts = spec.nRoutedExperts;
  const slots = spec.nActivatedExperts + spec.sharedSlots;
  await withBuffers(gpu, async (keep) => {
    const gate = randomMatrix(gpu, random, { rows: experts, cols: hidden, format: gateFormat });
    for (const part of gate.matrix.parts) keep(part.buffer);
    const { group, values, buffers } = randomExperts(gpu, random, { count: experts + spec.sharedSlots, hidden, width, format });
    for (const buffer of buffers) keep(buffer);
    const gamma = normals(random, hidden);
    const bias = biased ? Float64Array.from({ length: experts }, () => Math.fround(0.3 * random.uniform())) : undefined;
    const x = new Float64Array(tokens * hidden);
    const input = new Float64Array(tokens * hidden);
    const routes: Route[] = [];
    while (routes.length < tokens * slots) {
      const row = normals(random, hidden);
      const normed = rmsNormReference(row, gamma, 1, hidden, EPSILON);
      const token = routerReference(linearReference(normed, gate.values, 1, experts, hidden), bias, spec);
      if (token.margin < SURE) continue;
      x.set(row, (routes.length / slots) * hidden);
      input.set(normed, (routes.length / slots) * hidden);
      routes.push(...token.experts.map((expert, slot) => ({ expert, weight: token.weights[slot] ?? 0 })));
    }
    const out = downReference(values, gateUpReference(values, input, routes, slots), routes);
    const expected = combineReference(out, routes, slots, x);
    const added = expected.reduce((most, value, i) => Math.max(most, Math.abs(value - (x[i] ?? 0))), 0);

    // A row more than the batch has tokens: what belongs to it stays as it is.
    const rows = tokens + 1;
    const xStride = roundUp(hidden, 16) + 16;
    const before = new Float32Array(rows * xStride).fill(FILL);
    before.set(padded(x, tokens, hidden, xStride, FILL));
    const zeros = Array.from({ length: tokens }, () => 0);
    const step = uploadBatch(gpu, { tokens: zeros, positions: zeros, sequences: zeros, outputRows: [] }, rows);
    keep(step.batch);
    const gammaBuffer = keep(gpu.upload("gamma", padded(gamma, 1, hidden, roundUp(hidden, 16)), "weights"));
    const biasBuffer = bias && keep(gpu.upload("bias", Float32Array.from(bias), "weights"));
    const whole = supportedVariants(gpu, moeSublayerVariants(gpu, { gate: gate.matrix, spec, group, bias: biasBuffer }));
    const variants = whole.filter(({ workgroup }) => workgroup !== undefined);
    const runs = [];
    // Software adapters take seconds to compile each.
    for (const { name: variant } of gpu.adapter.isSoftware ? oneIn(variants.length, variants, seed) : variants) {
      const board = keep(gpu.buffer({ label: "board", size: moeBoardBytes(spec, hidden, rows), kind: "activations" }));
      const routing = keep(gpu.upload("routing", new Uint32Array(rows * slots * 2).fill(77), "activations"));
      const common = { gate: gate.matrix, spec, group, bias: biasBuffer, xStride, gamma: gammaBuffer, epsilon: EPSILON, step };
      // The second finds the board as the first left it.
      const streams = ["first", "second"].map((label) => keep(gpu.upload(`${label} x`, before, "activations")));
      const dispatches = [];
      for (const stream of streams)
        dispatches.push(...(await moeSublayer(gpu, { ...common, x: stream, tokens: rows, routing, board, variant })));
      runs.push({ variant, board, routing, streams, dispatches });
    }
    for (const { variant, board, routing, streams, dispatches } of runs) {
      gpu.submit(dispatches);
      const bytes = await gpu.read(routing);
      const [words, floats] = [new Uint32Array(bytes), new Float32Array(bytes)];
      assertEqual(
        routes.map((_, i) => words[i * 2] ?? 0),
        routes.map(({ expert }) => expert),
        `experts of ${variant}`,
      );
      assertClose(
        routes.map((_, i) => floats[i * 2 + 1] ?? 0),
        routes.map(({ weight }) => weight),
        { abs: 0, rel: 2e-5 },
        `weights of ${variant}`,
      );
      assertEqual(
        words.subarray(tokens * slots * 2, rows * slots * 2),
        Array.from({ length: slots * 2 }, () => 77),
        `the row beyond the batch of ${variant}`,
      );
      for (const stream of streams) {
        const written = new Float32Array(await gpu.read(stream));
        const actual = unpadded(written, tokens, hidden, xStride);
        assertClose(actual, expected, { abs: 3e-5 * added, rel: 1e-6 }, `x of ${variant}`);
        const untouched = before.slice();
        untouched.set(padded(actual, tokens, hidden, xStride, FILL));
        assertEqual(written, untouched, `x of ${variant} with its padding and the row beyond the batch`);
      }
      assertEqual(new Uint32Array(await gpu.read(board)), new Uint32Array(board.size / 4), `the board after ${variant}`);
    }
  });
}
