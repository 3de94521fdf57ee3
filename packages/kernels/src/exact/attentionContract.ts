/** Tolerance: as contract.ts; for attention one and a half units in the last place, and 2^-26 of the largest result, which is what exact_exp (shaders/lib/precise.wgsl) is off by. */
import type { GpuContext } from "@shoal/gpu";
import type { KvFormat } from "../kvRow.ts";
import type { MlaShape } from "../mla.ts";
import { fillCache } from "../mlaAttention/contract.ts";
import { mlaAttentionReference } from "../mlaAttention/reference.ts";
import { mlaOutputReference } from "../mlaOutput/reference.ts";
import { qAbsorbReference } from "../qAbsorb/reference.ts";
import {
  type ContractCase,
  assertEqual,
  assertNearest,
  normals,
  padded,
  randomMatrix,
  runAndRead,
  seededRandom,
  testSequences,
  unpadded,
  withBuffers,
} from "../testing/mod.ts";
import { type WeightFormat, roundUp } from "../weights.ts";
import { exactAttention, exactOutput, exactQAbsorb } from "./attention.ts";

interface Case {
  /** [heads, nope, rope, value, latent] */
  readonly sizes: readonly [number, number, number, number, number];
  readonly weights: WeightFormat;
  readonly cache: KvFormat;
  /** Of each token, its sequence and how many positions it attends to. */
  readonly rows: readonly (readonly [sequence: number, length: number])[];
}

const CASES: readonly Case[] = [
  { sizes: [1, 1, 2, 1, 1], weights: "f32", cache: "f32", rows: [[0, 1]] },
  {
    sizes: [10, 24, 16, 20, 96],
    weights: "fp8",
    cache: "f32",
    rows: [
      [0, 63],
      [1, 64],
      [0, 65],
      [2, 129],
    ],
  },
  {
    sizes: [3, 63, 6, 65, 129],
    weights: "fp8",
    cache: "f16",
    rows: [
      [0, 401],
      [1, 1],
    ],
  },
  { sizes: [2, 128, 64, 128, 512], weights: "bf16", cache: "f32", rows: [[0, 200]] },
  { sizes: [2, 16, 8, 16, 160], weights: "f32", cache: "fp8", rows: [[0, 90]] },
];

export const exactAttentionContract: readonly ContractCase[] = CASES.map((item, index) => ({
  name: `exact attention: absorption, attention and output give nearly the nearest f32 for ${JSON.stringify(item)}`,
  run: (gpu) => check(gpu, item, index + 1),
}));

async function check(gpu: GpuContext, { sizes, weights, cache: format, rows }: Case, seed: number): Promise<void> {
  const random = seededRandom(seed);
  const [nHeads, qkNopeHeadDim, qkRopeHeadDim, vHeadDim, kvLoraRank] = sizes;
  const shape: MlaShape = { nHeads, qkNopeHeadDim, qkRopeHeadDim, vHeadDim, kvLoraRank };
  const tokens = rows.length;
  const width = kvLoraRank + qkRopeHeadDim;
  const positions = rows.map(([, length]) => length - 1);
  const counts = new Map<number, number>();
  for (const [sequence, length] of rows) counts.set(sequence, Math.max(length, counts.get(sequence) ?? 0));
  await withBuffers(gpu, async (keep) => {
    let elements: ArrayLike<number> = [];
    const { step, cache, table, rowOf } = testSequences(gpu, random, keep, {
      shape,
      rows: rows.map(([sequence, length]) => ({ sequence, position: length - 1 })),
      format,
      blockSize: 16,
      fill: (at, all) => {
        fillCache(random, counts, at, width, all);
        elements = all;
      },
    });
    const { matrix: kvB, values } = randomMatrix(gpu, random, {
      rows: nHeads * (qkNopeHeadDim + vHeadDim),
      cols: kvLoraRank,
      format: weights,
    });
    for (const part of kvB.parts) keep(part.buffer);
    if (kvB.scales) keep(kvB.scales);

    const inWidth = nHeads * (qkNopeHeadDim + qkRopeHeadDim);
    const qStride = roundUp(inWidth, 16) + 16;
    const outStride = roundUp(nHeads * width, 16);
    const q = normals(random, tokens * inWidth);
    const qBuffer = keep(gpu.upload("q", padded(q, tokens, inWidth, qStride), "activations"));
    const absorbed = keep(gpu.upload("absorbed", new Float32Array((tokens + 1) * outStride).fill(7), "activations"));
    const absorb = await exactQAbsorb(gpu, { shape, step, q: qBuffer, qStride, kvB, out: absorbed, outStride, tokens: tokens + 1 });
    const latentStride = roundUp(kvLoraRank, 16);
    const attended = keep(gpu.upload("attended", new Float32Array(tokens * nHeads * latentStride).fill(1e30), "activations"));
    const softmaxScale = 1 / Math.sqrt(width);
    const attend = { shape, step, cache, q: absorbed, qStride: outStride, attended, softmaxScale: Math.fround(softmaxScale), tokens };
    const attention = await exactAttention(gpu, attend);
    const outWidth = nHeads * vHeadDim;
    const out = keep(gpu.upload("out", new Float32Array((tokens + 1) * outWidth).fill(7), "activations"));
    const output = await exactOutput(gpu, { shape, step, attended, kvB, out, outStride: outWidth, tokens: tokens + 1 });
    const absorbedActual = await runAndRead(gpu, absorb, absorbed);
    const queries = unpadded(absorbedActual, tokens, nHeads * width, outStride);
    assertNearest(queries, qAbsorbReference(shape, q, values, table, positions), 0.501, "absorbed queries");
    assertEqual(absorbedActual.subarray(tokens * outStride), new Float32Array(outStride).fill(7), "the row after the last");

    const attendedActual = await runAndRead(gpu, attention, attended);
    const latents = unpadded(attendedActual, tokens * nHeads, kvLoraRank, latentStride);
    const at = (token: number, position: number): number => rowOf({ sequence: rows[token]?.[0] ?? 0, position });
    const expected = mlaAttentionReference(shape, queries, elements, at, positions, Math.fround(softmaxScale));
    assertNearest(latents, expected, 1.5, "attended latents", 2 ** -26);
    assertEqual(attendedActual, padded(latents, tokens * nHeads, kvLoraRank, latentStride), "latents with their padding");
    const result = await runAndRead(gpu, output, out);
    assertNearest(result.subarray(0, tokens * outWidth), mlaOutputReference(shape, latents, values, tokens), 0.501, "output");
    assertEqual(
      result.subarray(tokens * outWidth, (tokens + 1) * outWidth),
      new Float32Array(outWidth).fill(7),
      "the output after the last",
    );
  });
}
