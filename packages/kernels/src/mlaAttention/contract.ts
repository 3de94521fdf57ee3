/**
 * Tolerance: 1e-5 of the largest result, or as much as the variant states. Sums are f32, and exp may be wrong by 3 + 2 |x| units in the last place (WGSL, "Accuracy of Built-in Functions"); here |x| stays under 40
 * where a weight matters. f16 and fp8 caches have the same tolerance, because the reference reads the values that they store.
 */
import type { GpuContext } from "@shoal/gpu";
import type { KvFormat } from "../kvRow.ts";
import type { MlaShape } from "../mla.ts";
import {
  type ContractCase,
  type Random,
  type TestRow,
  assertClose,
  normals,
  padded,
  runAndRead,
  seededRandom,
  testSequences,
  withBuffers,
} from "../testing/mod.ts";
import { supportedVariants } from "../variants.ts";
import { roundUp } from "../weights.ts";
import { mlaAttention, partialBytes } from "./kernel.ts";
import { mergeReference, mlaAttentionReference } from "./reference.ts";
import type { AttentionShape, AttentionVariant } from "./variant.ts";
import { mlaAttentionTrials, mlaAttentionVariants } from "./variants.ts";

interface Case {
  readonly heads: number;
  readonly latent: number;
  readonly rope: number;
  readonly format: KvFormat;
  readonly blockSize: number;
  readonly splits: number;
  readonly variant: string;
  /** Of the scores, times 1 / sqrt(width); 2 if not given. */
  readonly scale?: number;
  /** Of each token, its sequence and how many positions it attends to. */
  readonly rows: readonly (readonly [sequence: number, length: number])[];
}

const CASES: readonly Case[] = [
  { heads: 1, latent: 1, rope: 2, format: "f32", blockSize: 1, splits: 1, variant: "8x64r4", rows: [[0, 1]] },
  {
    heads: 3,
    latent: 31,
    rope: 6,
    format: "f32",
    blockSize: 4,
    splits: 3,
    variant: "8x64r4",
    rows: [
      [0, 3],
      [2, 4],
      [0, 5],
      [1, 401],
    ],
  },
  {
    heads: 10,
    latent: 96,
    rope: 16,
    format: "f16",
    blockSize: 16,
    splits: 4,
    variant: "16x32r2",
    rows: [
      [1, 1],
      [0, 15],
      [0, 16],
      [3, 17],
      [2, 257],
    ],
  },
  {
    heads: 6,
    latent: 128,
    rope: 32,
    format: "f32",
    blockSize: 64,
    splits: 1,
    variant: "8x64r4",
    rows: [
      [0, 63],
      [0, 64],
      [0, 65],
      [1, 331],
      [0, 66],
    ],
  },
  {
    heads: 16,
    latent: 512,
    rope: 64,
    format: "f16",
    blockSize: 16,
    splits: 8,
    variant: "16x64r1",
    rows: [
      [1, 509],
      [0, 1],
      [0, 2],
    ],
  },
  // Scores far below zero, in ranges shorter than what an invocation has of a tile.
  { heads: 40, latent: 64, rope: 8, format: "f32", blockSize: 8, splits: 16, variant: "32x64r4", scale: 9, rows: [[0, 97]] },
  { heads: 32, latent: 544, rope: 64, format: "f16", blockSize: 32, splits: 2, variant: "32x32r2", rows: [[0, 75]] },
  { heads: 9, latent: 64, rope: 16, format: "f16", blockSize: 32, splits: 1, variant: "16x32r1", rows: [[0, 33]] },
  {
    heads: 17,
    latent: 512,
    rope: 64,
    format: "f32",
    blockSize: 32,
    splits: 2,
    variant: "16x64r4",
    rows: [
      [0, 129],
      [1, 64],
    ],
  },
  {
    heads: 16,
    latent: 512,
    rope: 64,
    format: "fp8",
    blockSize: 32,
    splits: 4,
    variant: "16x32r2",
    rows: [
      [1, 300],
      [0, 33],
    ],
  },
  // By subgroup matrices: heads, columns and positions that are no whole groups, empty ranges; few tokens and many.
  {
    heads: 20,
    latent: 64,
    rope: 16,
    format: "f16",
    blockSize: 16,
    splits: 3,
    variant: "emulated-16x16s4a",
    rows: [
      [0, 3],
      [1, 70],
    ],
  },
  {
    heads: 16,
    latent: 32,
    rope: 16,
    format: "f16",
    blockSize: 8,
    splits: 1,
    variant: "emulated-16x32s4",
    scale: 9,
    rows: [
      [0, 1],
      [1, 31],
      [1, 32],
      [0, 33],
      [2, 131],
    ],
  },
  { heads: 16, latent: 64, rope: 16, format: "f16", blockSize: 32, splits: 2, variant: "emulated-16x16s8", scale: 9, rows: [[0, 97]] },
  { heads: 40, latent: 32, rope: 16, format: "f16", blockSize: 32, splits: 2, variant: "emulated-32x16s4", rows: [[0, 45]] },
  // Words that hold latents and keys, and a last group of 30 columns.
  { heads: 3, latent: 158, rope: 6, format: "fp8", blockSize: 4, splits: 2, variant: "plain", rows: [[1, 131]] },
];

export const mlaAttentionContract: readonly ContractCase[] = CASES.map((item, index) => ({
  name: `mlaAttention() equals f64 attention for ${JSON.stringify(item)}`,
  run: (gpu) => check(gpu, item, index + 1),
}));

/** Rows of the first `count` positions get multiples of 1/256, which f16 holds exactly; everything else would show as a large error. */
export function fillCache(
  random: Random,
  counts: ReadonlyMap<number, number>,
  rowOf: (row: TestRow) => number,
  width: number,
  all: Float32Array,
): void {
  all.fill(60000);
  for (const [sequence, count] of counts)
    for (let position = 0; position < count; position++) {
      const row = rowOf({ sequence, position });
      const end = row + roundUp(width, 8);
      for (let i = row; i < end; i++) all[i] = i < row + width ? (random.integer(1024) - 512) / 256 : 0;
    }
}

/** All; on software adapters, whose compilers take seconds for each, the default and the case's own. */
function variantsToTest(gpu: GpuContext, shape: AttentionShape, own: string): readonly AttentionVariant[] {
  const all = supportedVariants(gpu, [...mlaAttentionVariants(gpu, shape), ...mlaAttentionTrials(shape)]);
  return gpu.adapter.isSoftware ? all.filter(({ name }, index) => index === 0 || name === own) : all;
}

async function check(
  gpu: GpuContext,
  { heads, latent, rope, format, blockSize, splits, variant, scale = 2, rows }: Case,
  seed: number,
): Promise<void> {
  const random = seededRandom(seed);
  const shape: MlaShape = { nHeads: heads, qkNopeHeadDim: 1, qkRopeHeadDim: rope, vHeadDim: 1, kvLoraRank: latent };
  const width = latent + rope;
  const tokens = rows.length;
  const counts = new Map<number, number>();
  for (const [sequence, length] of rows) counts.set(sequence, Math.max(length, counts.get(sequence) ?? 0));
  await withBuffers(gpu, async (keep) => {
    let elements: ArrayLike<number> = [];
    const { step, cache, rowOf } = testSequences(gpu, random, keep, {
      shape,
      rows: rows.map(([sequence, length]) => ({ sequence, position: length - 1 })),
      format,
      blockSize,
      fill: (at, all) => {
        fillCache(random, counts, at, width, all);
        elements = all;
      },
    });
    const q = normals(random, tokens * heads * width);
    const qStride = roundUp(heads * width, 16);
    const qBuffer = keep(gpu.upload("q", padded(q, tokens, heads * width, qStride), "activations"));
    const size = partialBytes(shape, tokens, splits);
    const softmaxScale = scale / Math.sqrt(width);
    const spec = {
      shape,
      step,
      cache,
      q: qBuffer,
      qStride,
      splits,
      softmaxScale,
      tokens: tokens + 1,
    };
    const runs = [];
    for (const { name, tolerance = 0 } of variantsToTest(gpu, { ...shape, format }, variant)) {
      const partial = keep(gpu.upload("partial", new Float32Array(size / 4).fill(1e30), "activations"));
      runs.push({
        name,
        rel: Math.max(1e-5, tolerance),
        partial,
        dispatches: await mlaAttention(gpu, { ...spec, partial, variant: name }),
      });
    }
    const expected = mlaAttentionReference(
      shape,
      q,
      elements,
      (token, position) => rowOf({ sequence: rows[token]?.[0] ?? 0, position }),
      rows.map(([, length]) => length - 1),
      softmaxScale,
    );
    for (const { name, rel, partial, dispatches } of runs) {
      const result = (await runAndRead(gpu, dispatches, partial)).subarray(0, size / 4);
      assertClose(mergeReference(shape, result, tokens, splits), expected, { abs: 1e-6, rel }, `attention as ${name}`);
    }
  });
}
