/**
 * Tolerance: the same experts in the same order, for rows whose scores are 1e-4 apart; weights within 2e-5 of the largest, since a logit is a sum in f32 that sigmoid and softmax
 * hand on; the norm as normOperands' contract has it.
 */
import type { GpuContext } from "@shoal/gpu";
import { linearReference, rmsNormReference } from "../matvec/reference.ts";
import { type HalvesLayout, halvesBytes, halvesOctets } from "../matrix/halves.ts";
import type { RouterSpec } from "../router/kernel.ts";
import { type RoutedToken, routerReference } from "../router/reference.ts";
import {
  type ContractCase,
  assertClose,
  assertEqual,
  decodeHalves,
  normals,
  padded,
  randomMatrix,
  seededRandom,
  unpadded,
  uploadBatch,
  withBuffers,
} from "../testing/mod.ts";
import { type WeightFormat, roundUp } from "../weights.ts";
import { canGateMany, gateMany } from "./kernel.ts";

interface Shape {
  readonly spec: RouterSpec;
  readonly cols: number;
  readonly tokens: number;
  readonly format: WeightFormat;
  readonly bias?: boolean;
  readonly plain?: boolean;
}

const V2: RouterSpec = {
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
const V3: RouterSpec = { ...V2, nExpertGroups: 8, topkGroup: 4, scoreFunc: "sigmoid", groupScore: "top2sum", normTopkProb: true };

const SHAPES: readonly Shape[] = [
  { spec: V2, cols: 260, tokens: 19, format: "bf16" },
  { spec: { ...V3, nRoutedExperts: 200 }, cols: 131, tokens: 5, format: "f32", bias: true, plain: true },
  { spec: { ...V2, nRoutedExperts: 13, nActivatedExperts: 3, sharedSlots: 0 }, cols: 1031, tokens: 2, format: "f16", plain: true },
];

const EPSILON = 1e-6;
/** Of scores whose order decides, relative: below, sums in f32 may turn it. */
const SURE = 1e-4;

export const gateManyContract: readonly ContractCase[] = SHAPES.map((shape, index) => ({
  name: `gateMany() chooses and norms like the f64 references: ${shape.spec.nRoutedExperts} experts, ${shape.cols} columns, ${shape.format}`,
  run: (gpu) => check(gpu, shape, index + 1),
}));

async function check(
  gpu: GpuContext,
  { spec, cols, tokens, format, bias: biased = false, plain = false }: Shape,
  seed: number,
): Promise<void> {
  const random = seededRandom(seed);
  const experts = spec.nRoutedExperts;
  const slots = spec.nActivatedExperts + spec.sharedSlots;
  await withBuffers(gpu, async (keep) => {
    const { matrix, values } = randomMatrix(gpu, random, { rows: experts, cols, format });
    for (const part of matrix.parts) keep(part.buffer);
    if (!canGateMany(gpu, matrix)) return;
    const gamma = normals(random, cols);
    const bias = biased ? Float64Array.from({ length: experts }, () => Math.fround(0.3 * random.uniform())) : undefined;
    const x = new Float64Array(tokens * cols);
    const normed = new Float64Array(tokens * cols);
    const routed: RoutedToken[] = [];
    while (routed.length < tokens) {
      const row = normals(random, cols);
      const input = rmsNormReference(row, gamma, 1, cols, EPSILON);
      const token = routerReference(linearReference(input, values, 1, experts, cols), bias, spec);
      if (token.margin < SURE) continue;
      x.set(row, routed.length * cols);
      normed.set(input, routed.length * cols);
      routed.push(token);
    }

    // A row more than the batch has tokens: what belongs to it stays as it is.
    const rows = tokens + 1;
    const width = roundUp(cols, 16);
    const zeros = Array.from({ length: tokens }, () => 0);
    const step = uploadBatch(gpu, { tokens: zeros, positions: zeros, sequences: zeros, outputRows: [] }, rows);
    keep(step.batch);
    const xBuffer = keep(gpu.buffer({ label: "x", size: rows * width * 4, kind: "activations" }));
    gpu.write(xBuffer, 0, padded(x, tokens, cols, width));
    const routing = keep(gpu.upload("routing", new Uint32Array(rows * slots * 2).fill(77), "activations"));
    const y = keep(gpu.buffer({ label: "y", size: rows * width * 4, kind: "activations" }));
    const layout: HalvesLayout = { rows, columns: cols, format: "fp8", products: 2 };
    const halves = keep(gpu.buffer({ label: "halves", size: halvesBytes(layout), kind: "activations" }));
    const dispatches = await gateMany(gpu, {
      matrix,
      spec,
      bias: bias && keep(gpu.upload("bias", Float32Array.from(bias), "weights")),
      routing,
      step,
      tokens: rows,
      cols,
      x: xBuffer,
      xStride: width,
      gamma: keep(gpu.upload("gamma", padded(gamma, 1, cols, width), "weights")),
      epsilon: EPSILON,
      y: plain ? { buffer: y, stride: width } : undefined,
      halves: { buffer: halves, layout },
    });
    gpu.submit(dispatches);
    const bytes = await gpu.read(routing);
    const [words, floats] = [new Uint32Array(bytes), new Float32Array(bytes)];
    const pairs = Array.from({ length: tokens * slots }, (_, i) => i);
    const chosen = routed.flatMap((token) => token.experts);
    const weights = routed.flatMap((token) => token.weights);
    assertEqual(
      pairs.map((i) => words[i * 2] ?? 0),
      chosen,
      "experts",
    );
    assertClose(
      pairs.map((i) => floats[i * 2 + 1] ?? 0),
      weights,
      { abs: 0, rel: 2e-5 },
      "weights",
    );
    const beyond = words.subarray(tokens * slots * 2, rows * slots * 2);
    assertEqual(beyond, new Uint32Array(slots * 2).fill(77), "the row beyond the batch");
    const written = unpadded(new Float32Array(await gpu.read(y)), tokens, cols, width);
    assertClose(written, plain ? normed : new Float64Array(tokens * cols), { abs: 1e-7, rel: 1e-6 }, "y");
    const decoded = unpadded(decodeHalves(await gpu.read(halves), { layout }), tokens, cols, 8 * halvesOctets(cols));
    assertClose(decoded, normed, { abs: 1e-7, rel: 2e-6 }, "halves");
  });
}
