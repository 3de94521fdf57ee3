/**
 * Tolerance: sums are f32; 4e-6 of the largest result after gate and up, a product of two sums, and 3e-6 after down, for widths up to 260. WGSL allows exp(x) an
 * error of 3 + 2 |x| units in the last place, which is within that for gates of ordinary size.
 */
import type { GpuContext } from "@shoal/gpu";
import { encodeRouting } from "../experts.ts";
import { takeTurns } from "../rowTeams.ts";
import { supportedVariants } from "../variants.ts";
import { rmsNormReference } from "../matvec/reference.ts";
import {
  type ContractCase,
  assertClose,
  assertEqual,
  normals,
  padded,
  randomExperts,
  randomRoutes,
  runAndRead,
  seededRandom,
  unpadded,
  withBuffers,
} from "../testing/mod.ts";
import { type WeightFormat, roundUp } from "../weights.ts";
import { expertsDownFew, expertsGateUpFew } from "./kernel.ts";
import { combineReference, downReference, gateUpReference } from "./reference.ts";
import { downVariants, gateUpVariants } from "./variants.ts";

interface Shape {
  readonly count: number;
  readonly hidden: number;
  readonly width: number;
  readonly slots: number;
  readonly tokens?: number;
  readonly format?: WeightFormat;
  readonly expertsPerPage?: number;
  readonly norm?: boolean;
  readonly residual?: boolean;
  /** Only two variants: with as many pages as this, a minute goes into compiling more on software adapters. */
  readonly twoVariants?: boolean;
}

const SHAPES: readonly Shape[] = [
  { count: 1, hidden: 1, width: 1, slots: 1 },
  { count: 12, hidden: 200, width: 48, slots: 3, tokens: 2, norm: true, residual: true },
  { count: 5, hidden: 43, width: 129, slots: 5, tokens: 8, residual: true },
  { count: 3, hidden: 260, width: 127, slots: 2, norm: true },
  { count: 7, hidden: 128, width: 256, slots: 3, tokens: 3, expertsPerPage: 3, residual: true },
  { count: 19, hidden: 96, width: 40, slots: 9, tokens: 3, expertsPerPage: 2, norm: true, residual: true, twoVariants: true },
  { count: 10, hidden: 96, width: 40, slots: 4, tokens: 2, format: "bf16", norm: true, residual: true },
  { count: 4, hidden: 40, width: 96, slots: 2, format: "f16", expertsPerPage: 3 },
  { count: 4, hidden: 43, width: 17, slots: 3, tokens: 2, format: "f32", residual: true },
];

export const expertsFewContract: readonly ContractCase[] = SHAPES.map((shape, index) => ({
  name: `expertsFew: gate-up and down equal the f64 experts for ${JSON.stringify(shape)}`,
  run: (gpu) => check(gpu, shape, index + 1),
}));

async function check(gpu: GpuContext, shape: Shape, seed: number): Promise<void> {
  const {
    count,
    hidden,
    width,
    slots,
    tokens = 1,
    format = "fp8",
    expertsPerPage,
    norm = false,
    residual = false,
    twoVariants = false,
  } = shape;
  const random = seededRandom(seed);
  const epsilon = 1e-6;
  await withBuffers(gpu, async (keep) => {
    const { group, values, buffers } = randomExperts(gpu, random, {
      count,
      hidden,
      width,
      format,
      ...(expertsPerPage && { expertsPerPage }),
    });
    for (const buffer of buffers) keep(buffer);
    const routes = randomRoutes(random, count, tokens, slots);
    const x = normals(random, tokens * hidden);
    const gamma = normals(random, hidden);
    const before = normals(random, tokens * hidden);
    const xStride = roundUp(hidden, 16) + 16;
    const yStride = roundUp(hidden, 16) + 16;
    const hStride = roundUp(width, 16);
    const routing = keep(gpu.upload("routing", encodeRouting(routes), "activations"));
    const xBuffer = keep(gpu.upload("x", padded(x, tokens, hidden, xStride), "activations"));
    const gammaBuffer = keep(gpu.upload("gamma", padded(gamma, 1, hidden, roundUp(hidden, 16)), "weights"));
    const turns = <V>(variants: readonly V[]): readonly V[] => takeTurns(variants, seed).filter((_, index) => !twoVariants || index < 2);
    const routed = { group, slots, routing, tokens };
    const input = { x: xBuffer, xStride, ...(norm && { norm: { gamma: gammaBuffer, epsilon } }) };
    const room = (): GPUBuffer => keep(gpu.buffer({ label: "h", size: tokens * slots * hStride * 4, kind: "activations" }));
    // What down reads is the first variant's.
    const h = room();
    const gateUps = [];
    for (const { name: variant } of turns(supportedVariants(gpu, gateUpVariants(gpu, routed)))) {
      const written: GPUBuffer = gateUps.length === 0 ? h : room();
      gateUps.push({ variant, written, dispatches: await expertsGateUpFew(gpu, { ...routed, ...input, h: written, variant }) });
    }
    const downs = [];
    for (const { name: variant } of turns(supportedVariants(gpu, downVariants(gpu, routed)))) {
      const y = keep(gpu.upload("y", padded(before, tokens, hidden, yStride, 7), "activations"));
      downs.push({ variant, y, dispatches: await expertsDownFew(gpu, { ...routed, h, y, yStride, residual, variant }) });
    }

    const expectedH = gateUpReference(values, norm ? rmsNormReference(x, gamma, tokens, hidden, epsilon) : x, routes, slots);
    for (const { variant, written, dispatches } of gateUps) {
      const words = await runAndRead(gpu, dispatches, written);
      const actual = unpadded(words, tokens * slots, width, hStride);
      assertClose(actual, expectedH, { abs: 1e-6, rel: 4e-6 }, `h of ${variant}`);
      assertEqual(
        words.subarray(0, tokens * slots * hStride),
        padded(actual, tokens * slots, width, hStride),
        `h of ${variant} with its padding`,
      );
    }
    const hActual = unpadded(new Float32Array(await gpu.read(h)), tokens * slots, width, hStride);
    const start = residual ? before : new Float64Array(tokens * hidden);
    const expected = combineReference(downReference(values, hActual, routes), routes, slots, start);
    for (const { variant, y, dispatches } of downs) {
      const words = await runAndRead(gpu, dispatches, y);
      const actual = unpadded(words, tokens, hidden, yStride);
      assertClose(actual, expected, { abs: 1e-6, rel: 3e-6 }, `y of ${variant}`);
      assertEqual(words.subarray(0, tokens * yStride), padded(actual, tokens, hidden, yStride, 7), `y of ${variant} with its padding`);
    }
  });
}
