/**
 * Products of many tokens by every variant: "matmul-variants", "experts-variants"; and "matrixRate", how fast subgroup matrices are that
 * load nothing, where the device has them. Software adapters run what they would choose, of a small shape.
 */
import type { GpuContext } from "@shoal/gpu";
import { encodeRouting } from "../experts.ts";
import { type Route, downReference, gateUpReference } from "../expertsFew/reference.ts";
import { expertTiles, groupTokens } from "../expertsMany/grouping.ts";
import { expertsDownMany, expertsGateUpMany, mostHalvesRows } from "../expertsMany/kernel.ts";
import { expertsManyOperation, expertsManyTrials, expertsManyVariants } from "../expertsMany/variants.ts";
import type { ExpertsManyShape } from "../expertsMany/variant.ts";
import { halvesBuffer } from "../matrix/halves.ts";
import { matmul } from "../matmul/kernel.ts";
import { matmulOperation, matmulTrials, matmulVariants } from "../matmul/variants.ts";
import { matrixRate, matrixRateBytes, matrixRateReference } from "../matrixRate/kernel.ts";
import { linearReference } from "../matvec/reference.ts";
import { type Random, assertClose, assertEqual, normals, randomRoutes, uploadBatch } from "../testing/mod.ts";
import type { WeightFormat } from "../weights.ts";
import { type Variant, chooseVariant, supportedVariants } from "../variants.ts";
import { type BenchCase, type BenchCases, type Keep, type Prepared, TOLERANCE, pick, sampledRows } from "./case.ts";
import { benchExperts, benchMatrix } from "./pattern.ts";

export interface Product {
  readonly rows: number;
  readonly cols: number;
  readonly tokens: number;
  /** fp8 by default. */
  readonly format?: WeightFormat;
}

/** DeepSeek-V3's widest product both ways, its narrowest, and V2-Lite's; a prefill step and a batch of 32. */
const PRODUCTS: readonly Product[] = [
  { rows: 16_384, cols: 7168, tokens: 512 },
  { rows: 7168, cols: 16_384, tokens: 512 },
  { rows: 2112, cols: 7168, tokens: 512 },
  { rows: 2048, cols: 2048, tokens: 512 },
  { rows: 7168, cols: 16_384, tokens: 32 },
  { rows: 2048, cols: 2048, tokens: 32 },
];
const SMALL_PRODUCT: Product = { rows: 512, cols: 1024, tokens: 64 };

export interface Experts {
  readonly experts: number;
  /** Further experts, which every token takes. */
  readonly shared?: number;
  readonly hidden: number;
  readonly width: number;
  readonly slots: number;
  readonly tokens: number;
  readonly tileRows: number;
}

/** A quarter of DeepSeek-V3's, with as many rows each as 512 tokens make; V2-Lite's. */
const V3_EXPERTS = { experts: 64, hidden: 7168, width: 2048, slots: 8, tokens: 128 };
const LITE_EXPERTS = { experts: 64, hidden: 2048, width: 1408, slots: 6, tokens: 512 };
const EXPERTS: readonly Experts[] = [
  ...[16, 32].map((tileRows) => ({ ...V3_EXPERTS, tileRows })),
  ...[16, 32, 64, 128].map((tileRows) => ({ ...LITE_EXPERTS, tileRows })),
];
const SMALL_EXPERTS: Experts = { experts: 8, hidden: 256, width: 128, slots: 4, tokens: 32, tileRows: 16 };

const RATE_WORKGROUPS = 4096;
const RATE_ROUNDS = 256;
/** Outputs of so many tokens are compared. */
const COMPARED_TOKENS = 2;

interface Tolerant extends Variant {
  readonly tolerance?: number;
}

export const manyVariantsCases: BenchCases = (_, gpu) => {
  const { isSoftware } = gpu.adapter;
  const products = (isSoftware ? [SMALL_PRODUCT] : PRODUCTS).flatMap((product) => productVariants(gpu, "matmul-variants", product));
  const experts = (isSoftware ? [SMALL_EXPERTS] : EXPERTS).flatMap((shape) => expertsVariants(gpu, "experts-variants", shape));
  return [...(gpu.dialect.subgroupMatrix ? [rateCase] : []), ...products, ...experts];
};

function pickVariants(gpu: GpuContext, operation: string, listed: readonly Tolerant[], trials: readonly Tolerant[]): readonly Tolerant[] {
  if (gpu.adapter.isSoftware) return [chooseVariant(gpu, operation, listed)];
  return supportedVariants(gpu, [...listed, ...trials.filter(({ name }) => !name.startsWith("emulated"))]);
}

/** A product by every variant. */
export function productVariants(gpu: GpuContext, op: string, product: Product): readonly BenchCase[] {
  const { rows, tokens, format = "fp8" } = product;
  const shape = { format, rows, tokens };
  const variants = pickVariants(gpu, matmulOperation(shape), matmulVariants(gpu, shape), matmulTrials(gpu, shape));
  return variants.map((variant) => productCase(op, product, variant));
}

/** Experts' gate and up, and down, by every variant. */
export function expertsVariants(gpu: GpuContext, op: string, shape: Experts): readonly BenchCase[] {
  return [true, false].flatMap((gateUp) => {
    const asked: ExpertsManyShape = { gateUp, format: "fp8", tileRows: shape.tileRows };
    const variants = pickVariants(gpu, expertsManyOperation(asked), expertsManyVariants(gpu, asked), expertsManyTrials(gpu, asked));
    return variants.map((variant) => expertsCase(op, shape, gateUp, variant));
  });
}

/** Sums of thousands are wrong by more than those that contracts compare; what f16 rounds stays a share. */
function toleranceOf({ tolerance = 0 }: Tolerant): typeof TOLERANCE {
  return { ...TOLERANCE, rel: Math.max(TOLERANCE.rel, tolerance) };
}

const rateCase: BenchCase = {
  op: "matrixRate",
  name: "subgroup matrices that load nothing, f16 in f32",
  prepare: async (gpu, keep) => {
    const results = keep(gpu.buffer({ label: "results", size: matrixRateBytes(RATE_WORKGROUPS), kind: "scratch" }));
    const dispatches = [await matrixRate(gpu, { workgroups: RATE_WORKGROUPS, rounds: RATE_ROUNDS, results })];
    const verify = async (): Promise<void> => {
      const expected = matrixRateReference(RATE_ROUNDS);
      assertEqual(new Float32Array(await gpu.read(results, 0, expected.length * 4)), expected, "results");
    };
    return { dispatches, verify };
  },
};

/** Whose count is all of them. */
function stepOf(gpu: GpuContext, keep: Keep, tokens: number) {
  const zeros = Array.from({ length: tokens }, () => 0);
  const step = uploadBatch(gpu, { tokens: zeros, positions: zeros, sequences: zeros, outputRows: [] }, tokens);
  keep(step.batch);
  return step;
}

function productCase(op: string, { rows, cols, tokens, format = "fp8" }: Product, variant: Tolerant): BenchCase {
  const prepare = async (gpu: GpuContext, keep: Keep, random: Random): Promise<Prepared> => {
    const { matrix, rowsOf } = benchMatrix(gpu, keep, random, { rows, cols, format });
    const input = normals(random, tokens * cols);
    const x = keep(gpu.upload("x", Float32Array.from(input), "activations"));
    const y = keep(gpu.buffer({ label: "y", size: tokens * rows * 4, kind: "activations" }));
    const halves = keep(halvesBuffer(gpu, { rows: tokens, columns: cols }));
    const spec = { matrix, tokens, halves, x, xStride: cols, y, yStride: rows, step: stepOf(gpu, keep, tokens) };
    const dispatches = await matmul(gpu, { ...spec, variant: variant.name });
    const verify = async (): Promise<void> => {
      const sampled = sampledRows(random, rows);
      // The last tokens.
      const first = tokens - COMPARED_TOKENS;
      const result = new Float32Array(await gpu.read(y, first * rows * 4, COMPARED_TOKENS * rows * 4));
      const expected = linearReference(input.subarray(first * cols), rowsOf(sampled), COMPARED_TOKENS, sampled.length, cols);
      assertClose(pick(result, COMPARED_TOKENS, rows, sampled), expected, toleranceOf(variant), "y");
    };
    return { dispatches, verify };
  };
  return { op, name: `${rows} x ${cols} ${format}, ${tokens} tokens: ${variant.name}`, prepare };
}

/** As a router makes them, and the shared experts after them. */
export function benchRoutes(
  random: Random,
  { experts, shared = 0, slots, tokens }: Omit<Experts, "hidden" | "width" | "tileRows">,
): Route[] {
  const routed = randomRoutes(random, experts, tokens, slots);
  return Array.from({ length: tokens }, (_, token) => [
    ...routed.slice(token * slots, (token + 1) * slots),
    ...Array.from({ length: shared }, (__, i) => ({ expert: experts + i, weight: 1 })),
  ]).flat();
}

function expertsCase(op: string, shape: Experts, gateUp: boolean, variant: Tolerant): BenchCase {
  const { experts, shared = 0, hidden, width, tokens, tileRows } = shape;
  const [count, slots] = [experts + shared, shape.slots + shared];
  const [rows, cols] = gateUp ? [width, hidden] : [hidden, width];
  const prepare = async (gpu: GpuContext, keep: Keep, random: Random): Promise<Prepared> => {
    const made = benchExperts(gpu, keep, random, { count, hidden, width, only: gateUp ? "gateUp" : "down" });
    const routes = benchRoutes(random, shape);
    const routing = keep(gpu.upload("routing", encodeRouting(routes), "activations"));
    const { tilesBytes, rowsBytes } = expertTiles({ maxTokens: tokens, slots, experts: count, tileRows });
    const tiles = keep(gpu.buffer({ label: "tiles", size: tilesBytes, kind: "activations" }));
    const tileRowNumbers = keep(gpu.buffer({ label: "tile rows", size: rowsBytes, kind: "activations" }));
    const grouping = { tiles, rows: tileRowNumbers, tileRows };
    const step = stepOf(gpu, keep, tokens);
    gpu.submit(await groupTokens(gpu, { routing, slots, experts: count, ...grouping, tokens, maxTokens: tokens, step }));
    const input = normals(random, gateUp ? tokens * hidden : tokens * slots * width);
    const x = keep(gpu.upload("input", Float32Array.from(input), "activations"));
    const out = keep(gpu.buffer({ label: "output", size: tokens * slots * rows * 4, kind: "activations" }));
    const halves = keep(
      halvesBuffer(gpu, {
        rows: mostHalvesRows({ maxTokens: tokens, slots, experts: count, tileRows }),
        columns: gateUp ? hidden : width,
      }),
    );
    const spec = { group: made.group, slots, grouping, tokens, halves, variant: variant.name };
    const dispatches = gateUp
      ? await expertsGateUpMany(gpu, { ...spec, x, xStride: hidden, h: out })
      : await expertsDownMany(gpu, { ...spec, h: x, out, outStride: hidden });
    const verify = async (): Promise<void> => {
      const sampled = sampledRows(random, rows);
      const pairs = COMPARED_TOKENS * slots;
      const result = new Float32Array(await gpu.read(out, 0, pairs * rows * 4));
      const none = new Float64Array();
      const some = routes.slice(0, pairs);
      const expected = gateUp
        ? gateUpReference(
            { hidden, width: sampled.length, gate: made.gateRows(sampled), up: made.upRows(sampled), down: none },
            input,
            some,
            slots,
          )
        : downReference({ hidden: sampled.length, width, gate: none, up: none, down: made.downRows(sampled) }, input, some);
      assertClose(pick(result, pairs, rows, sampled), expected, toleranceOf(variant), "output");
    };
    return { dispatches, verify };
  };
  const what = `${slots} of ${count} experts, ${gateUp ? "gate and up" : "down"} ${rows} x ${cols} fp8, ${tokens} tokens`;
  return { op, name: `${what}, tiles of ${tileRows}: ${variant.name}`, prepare };
}
