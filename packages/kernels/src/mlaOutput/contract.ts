/**
 * Tolerance: 5e-6 of the largest result: f32 sums of up to 512 terms, and exp over maxima that differ by up to 4 (11 units in the last place).
 * Columns past the last head and rows past the last token stay as they are; latents of empty ranges hold 1e30, and are not read.
 */
import type { GpuContext } from "@shoal/gpu";
import { type HalvesLayout, halvesBytes } from "../matrix/halves.ts";
import type { MlaShape } from "../mla.ts";
import { partialBytes } from "../mlaAttention/kernel.ts";
import { mergeReference } from "../mlaAttention/reference.ts";
import {
  type ContractCase,
  type Random,
  assertClose,
  decodeHalves,
  oneIn,
  randomMatrix,
  runAndRead,
  seededRandom,
  testSequences,
  withBuffers,
} from "../testing/mod.ts";
import { supportedVariants } from "../variants.ts";
import { type WeightFormat, roundUp } from "../weights.ts";
import { mlaOutput, outputsInHalves } from "./kernel.ts";
import { mlaOutputReference } from "./reference.ts";
import { mlaOutputVariants } from "./variants.ts";

interface Case {
  readonly sizes: readonly [heads: number, nope: number, value: number, latent: number];
  readonly tokens: number;
  readonly splits: number;
  readonly format: WeightFormat;
  /** Values are written as halves as well, where the device can: rounded to f16 once. */
  readonly halves?: boolean;
}

const CASES: readonly Case[] = [
  { sizes: [1, 1, 1, 1], tokens: 1, splits: 1, format: "f32" },
  { sizes: [3, 16, 24, 32], tokens: 3, splits: 2, format: "f32" },
  { sizes: [10, 24, 20, 96], tokens: 1, splits: 7, format: "fp8" },
  { sizes: [5, 63, 65, 129], tokens: 5, splits: 1, format: "fp8" },
  { sizes: [2, 128, 128, 512], tokens: 9, splits: 3, format: "fp8" },
  { sizes: [6, 24, 64, 96], tokens: 18, splits: 2, format: "fp8", halves: true },
  { sizes: [2, 8, 132, 80], tokens: 66, splits: 3, format: "bf16" },
  { sizes: [1, 16, 32, 528], tokens: 1, splits: 40, format: "f16" },
  { sizes: [4, 24, 28, 48], tokens: 2, splits: 1, format: "bf16" },
  { sizes: [3, 17, 9, 127], tokens: 1, splits: 4, format: "f16" },
];

export const mlaOutputContract: readonly ContractCase[] = CASES.map((item, index) => ({
  name: `mlaOutput() equals the f64 merge and product for ${JSON.stringify(item)}`,
  run: (gpu) => check(gpu, item, index + 1),
}));

/** [tokens, splits, heads] records: latent, zeros, maximum, sum, two zeros. The first token's ranges but the first are empty. */
function randomPartial(random: Random, shape: MlaShape, tokens: number, splits: number): Float32Array<ArrayBuffer> {
  const all = new Float32Array(partialBytes(shape, tokens, splits) / 4);
  const record = all.length / (tokens * splits * shape.nHeads);
  for (let r = 0; r < tokens * splits * shape.nHeads; r++) {
    const empty = r >= shape.nHeads && r < splits * shape.nHeads;
    const sum = empty ? 0 : 1 + 20 * random.uniform();
    for (let c = 0; c < shape.kvLoraRank; c++) all[r * record + c] = empty ? 1e30 : random.normal() * sum;
    all[(r + 1) * record - 4] = empty ? -3e38 : 4 * random.uniform() - 2;
    all[(r + 1) * record - 3] = sum;
  }
  return all;
}

async function check(gpu: GpuContext, { sizes, tokens, splits, format, halves = false }: Case, seed: number): Promise<void> {
  const random = seededRandom(seed);
  const [nHeads, qkNopeHeadDim, vHeadDim, kvLoraRank] = sizes;
  const shape: MlaShape = { nHeads, qkNopeHeadDim, qkRopeHeadDim: 2, vHeadDim, kvLoraRank };
  const rows = Array.from({ length: tokens }, () => ({ sequence: 0, position: 0 }));
  await withBuffers(gpu, async (keep) => {
    const { step } = testSequences(gpu, random, keep, { shape, rows, format: "f16", blockSize: 16 });
    const { matrix, values } = randomMatrix(gpu, random, { rows: nHeads * (qkNopeHeadDim + vHeadDim), cols: kvLoraRank, format });
    for (const part of matrix.parts) keep(part.buffer);
    if (matrix.scales) keep(matrix.scales);
    const records = randomPartial(random, shape, tokens, splits);
    const partial = keep(gpu.upload("partial", records, "activations"));
    const width = nHeads * vHeadDim;
    const outStride = roundUp(width, 16) + 16;
    const spec = { shape, step, partial, splits, kvB: matrix, outStride, tokens: tokens === 1 ? 1 : tokens + 1 };
    const runs = [];
    // Some variants of each shape, others for the next: compiling them is most of the time.
    const variants = supportedVariants(gpu, mlaOutputVariants(gpu, { ...spec, stride: matrix.stride, value: vHeadDim, format }));
    for (const { name } of oneIn(gpu.adapter.isSoftware ? 4 : 2, variants, seed)) {
      const out = keep(gpu.upload("out", new Float32Array((tokens + 1) * outStride).fill(7), "activations"));
      runs.push({ name, out, dispatches: await mlaOutput(gpu, { ...spec, out, variant: name }) });
    }
    const inHalves = [];
    const layout: HalvesLayout = { rows: spec.tokens, columns: width, blocks: true, format: "fp8", products: 1 };
    for (const { name } of halves ? variants : []) {
      const own = { ...spec, variant: name };
      if (!outputsInHalves(gpu, { ...own, out: partial }, layout)) continue;
      const gamma = keep(gpu.upload("gamma", new Float32Array(roundUp(kvLoraRank, 16)).fill(4, 0, kvLoraRank), "weights"));
      const out = keep(gpu.buffer({ label: "out", size: halvesBytes(layout), kind: "activations" }));
      inHalves.push({ name, out, dispatches: await mlaOutput(gpu, { ...own, out, halves: { buffer: out, layout, gamma } }) });
    }
    const product = mlaOutputReference(shape, mergeReference(shape, records, tokens, splits), values, tokens);
    const expected = new Float64Array((tokens + 1) * outStride).fill(7);
    for (let t = 0; t < tokens; t++) expected.set(product.subarray(t * width, (t + 1) * width), t * outStride);
    for (const { name, out, dispatches } of runs) {
      const result = await runAndRead(gpu, dispatches, out);
      assertClose(result, expected, { abs: 1e-6, rel: 5e-6 }, `out of ${name}`);
    }
    for (const { name, out, dispatches } of inHalves) {
      gpu.submit(dispatches);
      const decoded = decodeHalves(await gpu.read(out), { layout });
      assertClose(decoded.subarray(0, product.length), product, { abs: 1e-6, rel: 2 ** -11 }, `halves of ${name}`);
    }
  });
}
