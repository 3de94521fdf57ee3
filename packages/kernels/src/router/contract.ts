/**
 * Tolerance: the same experts in the same order, for inputs whose scores are 1e-4 apart or exactly equal; weights within 5e-6 of the largest, since WGSL allows
 * exp(x) an error of 3 + 2 |x| units in the last place.
 */
import type { GpuContext } from "@shoal/gpu";
import { type ContractCase, assertClose, assertEqual, padded, seededRandom, uploadBatch, withBuffers } from "../testing/mod.ts";
import { type RouterSpec, router } from "./kernel.ts";
import { routerReference } from "./reference.ts";

interface Shape {
  readonly name: string;
  readonly spec: RouterSpec;
  readonly tokens: number;
  /** Biases uniform in this range. */
  readonly bias?: readonly [low: number, high: number];
  /** Logits and biases are rounded to few values, so that experts and groups tie. */
  readonly tied?: boolean;
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
  { name: "V3's 256 experts", spec: V3, tokens: 9, bias: [-0.1, 0.4] },
  { name: "V3's 256 experts all with negative biases", spec: V3, tokens: 5, bias: [-4, -2] },
  { name: "V3's 256 experts with ties", spec: V3, tokens: 17, bias: [-0.5, 0.5], tied: true },
  {
    name: "12 experts in 3 groups with ties",
    spec: { ...V3, nRoutedExperts: 12, nActivatedExperts: 3, nExpertGroups: 3, topkGroup: 2, sharedSlots: 0 },
    tokens: 31,
    bias: [-0.5, 0.5],
    tied: true,
  },
  {
    name: "groups of one expert",
    spec: { ...V3, nRoutedExperts: 8, nActivatedExperts: 2, nExpertGroups: 8, topkGroup: 3, sharedSlots: 0 },
    tokens: 3,
    bias: [-1, 0],
  },
  { name: "10 experts, no groups, softmax", spec: { ...V2, nRoutedExperts: 10, nActivatedExperts: 3 }, tokens: 7 },
  { name: "V2-Lite's 64 experts with ties", spec: V2, tokens: 5, tied: true },
  {
    name: "V2's 160 experts in groups scored by their best",
    spec: { ...V2, nRoutedExperts: 160, nExpertGroups: 8, topkGroup: 3, routedScalingFactor: 16 },
    tokens: 4,
  },
  { name: "64 experts, no groups, sigmoid", spec: { ...V3, nRoutedExperts: 64, nExpertGroups: 1, topkGroup: 1 }, tokens: 4, bias: [0, 1] },
  {
    name: "13 experts, all activated but one",
    spec: { ...V3, nRoutedExperts: 13, nActivatedExperts: 12, nExpertGroups: 1, topkGroup: 1, sharedSlots: 0 },
    tokens: 2,
  },
  { name: "1024 experts", spec: { ...V3, nRoutedExperts: 1024, nExpertGroups: 1, topkGroup: 1 }, tokens: 1, bias: [0, 0.5] },
];

export const routerContract: readonly ContractCase[] = [
  ...SHAPES.map((shape, index) => ({
    name: `router() chooses like the f64 reference: ${shape.name}`,
    run: (gpu: GpuContext) => check(gpu, shape, index + 1),
  })),
  { name: "router() fills every slot with a different expert when the logits are NaN", run: checkNaN },
];

async function check(gpu: GpuContext, { spec, tokens, bias: range, tied = false }: Shape, seed: number): Promise<void> {
  const random = seededRandom(seed);
  const experts = spec.nRoutedExperts;
  const rounded = (value: number): number => (tied ? Math.round(value * 4) / 4 : Math.fround(value));
  const draw = (next: () => number): Float64Array => Float64Array.from({ length: experts }, () => rounded(next()));
  const bias = range && draw(() => range[0] + (range[1] - range[0]) * random.uniform());
  const logits = new Float64Array(tokens * experts);
  const expectedExperts: number[] = [];
  const expectedWeights: number[] = [];
  for (let t = 0; t < tokens;) {
    const row = draw(() => 2 * random.normal());
    const routed = routerReference(row, bias, spec);
    if (routed.margin < 1e-4) continue;
    logits.set(row, t * experts);
    expectedExperts.push(...routed.experts);
    expectedWeights.push(...routed.weights);
    t++;
  }
  const actual = await route(gpu, spec, logits, tokens, bias);
  assertEqual(actual.experts, expectedExperts, "experts");
  assertClose(actual.weights, expectedWeights, { abs: 0, rel: 5e-6 }, "weights");
}

async function checkNaN(gpu: GpuContext): Promise<void> {
  const { experts } = await route(gpu, V3, new Float64Array(256).fill(Number.NaN), 1, undefined);
  assertEqual([new Set(experts).size, Math.max(...experts)], [9, 256], "number of experts and the last");
}

/** Runs the router; one row more than the batch has tokens shows that rows beyond its count stay. */
async function route(
  gpu: GpuContext,
  spec: RouterSpec,
  logits: Float64Array,
  tokens: number,
  bias: Float64Array | undefined,
): Promise<{ experts: number[]; weights: number[] }> {
  const slots = spec.nActivatedExperts + spec.sharedSlots;
  const logitsStride = spec.nRoutedExperts + 5;
  const maxTokens = tokens + 1;
  return withBuffers(gpu, async (keep) => {
    const rows = padded(logits, tokens, spec.nRoutedExperts, logitsStride);
    const logitsBuffer = keep(gpu.buffer({ label: "logits", size: maxTokens * logitsStride * 4, kind: "activations" }));
    gpu.write(logitsBuffer, 0, rows);
    const zeros = Array.from({ length: tokens }, () => 0);
    const step = uploadBatch(gpu, { tokens: zeros, positions: zeros, sequences: zeros, outputRows: [] }, maxTokens);
    keep(step.batch);
    const routing = keep(gpu.upload("routing", new Uint32Array(maxTokens * slots * 2).fill(77), "activations"));
    const biasBuffer = bias && keep(gpu.upload("bias", Float32Array.from(bias), "weights"));
    const dispatches = await router(gpu, {
      logits: logitsBuffer,
      logitsStride,
      ...(biasBuffer && { bias: biasBuffer }),
      routing,
      spec,
      tokens: maxTokens,
      step,
    });
    gpu.submit(dispatches);
    const bytes = await gpu.read(routing, 0, maxTokens * slots * 8);
    const words = new Uint32Array(bytes);
    const floats = new Float32Array(bytes);
    assertEqual(
      words.subarray(tokens * slots * 2),
      Array.from({ length: slots * 2 }, () => 77),
      "the row beyond the batch",
    );
    const pairs = Array.from({ length: tokens * slots }, (_, i) => i);
    return { experts: pairs.map((i) => words[i * 2] ?? 0), weights: pairs.map((i) => floats[i * 2 + 1] ?? 0) };
  });
}
