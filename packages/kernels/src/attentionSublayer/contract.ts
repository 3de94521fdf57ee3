/**
 * Tolerance: 1e-5 of the largest value, for six products in f32 one after the other. An f16 cache rounds the token's row, by up to 2^-11 of itself: the reference attends to what the cache holds
 * afterwards. Rows of the cache that are not the token's stay as they are, and so does what lies behind the token's residual stream.
 */
import type { GpuContext } from "@shoal/gpu";
import { type KvFormat, kvRowElements } from "../kvRow.ts";
import { kvWriteReference } from "../kvWrite/reference.ts";
import { linearReference, rmsNormReference } from "../matvec/reference.ts";
import type { MlaShape } from "../mla.ts";
import { mlaAttentionReference } from "../mlaAttention/reference.ts";
import { mlaOutputReference } from "../mlaOutput/reference.ts";
import { qAbsorbReference } from "../qAbsorb/reference.ts";
import {
  type ContractCase,
  assertClose,
  assertEqual,
  cacheElements,
  normals,
  padded,
  randomMatrix,
  seededRandom,
  testSequences,
  withBuffers,
} from "../testing/mod.ts";
import { supportedVariants } from "../variants.ts";
import { SCALE_BLOCK, type WeightFormat, roundUp } from "../weights.ts";
import { attentionBoardBytes, attentionSublayer } from "./kernel.ts";
import { attentionSublayerVariants } from "./variants.ts";

interface Case {
  readonly sizes: readonly [heads: number, nope: number, rope: number, value: number, latent: number];
  readonly hidden: number;
  readonly qLoraRank: number;
  readonly position: number;
  readonly format: WeightFormat;
  readonly kvFormat: KvFormat;
  readonly blockSize: number;
}

const CASES: readonly Case[] = [
  { sizes: [3, 64, 32, 64, 128], hidden: 256, qLoraRank: 128, position: 1100, format: "fp8", kvFormat: "f16", blockSize: 32 },
  { sizes: [9, 24, 8, 32, 48], hidden: 139, qLoraRank: 32, position: 37, format: "bf16", kvFormat: "f32", blockSize: 7 },
  { sizes: [1, 17, 4, 16, 16], hidden: 20, qLoraRank: 16, position: 0, format: "f32", kvFormat: "f16", blockSize: 4 },
];

export const attentionSublayerContract: readonly ContractCase[] = CASES.map((item, index) => ({
  name: `attentionSublayer() equals norm, projections, cache write, attention and output in f64 for ${JSON.stringify(item)}`,
  run: (gpu) => check(gpu, item, index),
}));

const EPSILON = 1e-6;
const LATENT_EPSILON = 1e-5;
const TOLERANCE = { abs: 1e-6, rel: 1e-5 };

async function check(
  gpu: GpuContext,
  { sizes, hidden, qLoraRank, position, format, kvFormat, blockSize }: Case,
  seed: number,
): Promise<void> {
  const random = seededRandom(seed + 1);
  const [nHeads, qkNopeHeadDim, qkRopeHeadDim, vHeadDim, kvLoraRank] = sizes;
  const shape: MlaShape = { nHeads, qkNopeHeadDim, qkRopeHeadDim, vHeadDim, kvLoraRank };
  const row = { sequence: 1, position };
  await withBuffers(gpu, async (keep) => {
    let before = new Float32Array();
    const { step, cache, table, rowOf } = testSequences(gpu, random, keep, {
      shape,
      rows: [row],
      format: kvFormat,
      blockSize,
      fill: (place, all) => {
        for (let i = 0; i < all.length; i++) all[i] = (random.integer(2048) - 1024) / 1024;
        // What the token writes is not read before.
        all.fill(Number.NaN, place(row), place(row) + kvRowElements(shape));
        before = all.slice();
      },
    });
    const width = kvLoraRank + qkRopeHeadDim;
    const kvStart = roundUp(qLoraRank, SCALE_BLOCK);
    const weights = (rows: number, cols: number) => {
      const { matrix, values } = randomMatrix(gpu, random, { rows, cols, format });
      for (const part of matrix.parts) keep(part.buffer);
      if (matrix.scales) keep(matrix.scales);
      return { matrix, values };
    };
    const input = weights(kvStart + width, hidden);
    const queryB = weights(nHeads * (qkNopeHeadDim + qkRopeHeadDim), qLoraRank);
    const kvB = weights(nHeads * (qkNopeHeadDim + vHeadDim), kvLoraRank);
    const output = weights(hidden, nHeads * vHeadDim);
    const gammas = { input: normals(random, hidden), query: normals(random, qLoraRank), latent: normals(random, kvLoraRank) };
    const queryStart = roundUp(hidden, 16) + 16;
    const latentStart = queryStart + roundUp(qLoraRank, 16);
    const norms = new Float32Array(latentStart + roundUp(kvLoraRank, 16));
    norms.set(gammas.input);
    norms.set(gammas.query, queryStart);
    norms.set(gammas.latent, latentStart);
    const x = normals(random, hidden);
    const behind = 16;
    const stream = padded(x, 1, hidden, roundUp(hidden, 16) + behind);
    stream.fill(7, roundUp(hidden, 16));
    const xBuffer = keep(gpu.upload("x", stream, "activations"));
    const board = keep(gpu.buffer({ label: "board", size: attentionBoardBytes(nHeads, hidden), kind: "activations" }));
    const spec = {
      shape,
      qLoraRank,
      step,
      cache,
      x: xBuffer,
      norms: { buffer: keep(gpu.upload("norms", norms, "weights")), queryStart, latentStart },
      epsilon: EPSILON,
      latentEpsilon: LATENT_EPSILON,
      input: input.matrix,
      kvStart,
      queryB: queryB.matrix,
      kvB: kvB.matrix,
      output: output.matrix,
      softmaxScale: 1 / Math.sqrt(width),
      board,
    };
    const all = supportedVariants(gpu, attentionSublayerVariants(gpu, spec)).filter(({ workgroup }) => workgroup !== undefined);
    // Software adapters take seconds to compile each.
    const variants = gpu.adapter.isSoftware ? all.filter((_, index) => index === seed % all.length) : all;

    const projected = linearReference(rmsNormReference(x, gammas.input, 1, hidden, EPSILON), input.values, 1, kvStart + width, hidden);
    const queryLatent = rmsNormReference(projected.subarray(0, qLoraRank), gammas.query, 1, qLoraRank, LATENT_EPSILON);
    const q = linearReference(queryLatent, queryB.values, 1, queryB.matrix.rows, qLoraRank);
    const written = kvWriteReference(shape, projected.subarray(kvStart), gammas.latent, LATENT_EPSILON, table, [position]);
    const expectedCache = Float64Array.from(before);
    expectedCache.fill(0, rowOf(row), rowOf(row) + kvRowElements(shape));
    expectedCache.set(written, rowOf(row));
    const absorbed = qAbsorbReference(shape, q, kvB.values, table, [position]);
    const original = await gpu.read(cache.buffer);
    const runs = [];
    for (const { name } of variants) runs.push({ name, dispatches: await attentionSublayer(gpu, { ...spec, variant: name }) });
    for (const { name, dispatches } of runs) {
      const results: Float32Array[] = [];
      // The second finds the board as the first left it.
      for (let run = 0; run < 2; run++) {
        gpu.write(cache.buffer, 0, new Uint8Array(original));
        gpu.write(xBuffer, 0, stream);
        gpu.submit(dispatches);
        results.push(new Float32Array(await gpu.read(xBuffer)));
        assertEqual(new Uint32Array(await gpu.read(board)), new Uint32Array(board.size / 4), `the board after ${name}`);
      }
      const held = cacheElements(await gpu.read(cache.buffer), shape, kvFormat);
      assertClose(held, expectedCache, { abs: 1e-7, rel: kvFormat === "f32" ? 4e-6 : 2 ** -11 + 4e-6 }, `cache of ${name}`);
      const at = (_: number, place: number): number => rowOf({ sequence: row.sequence, position: place });
      const attended = mlaAttentionReference(shape, absorbed, held, at, [position], spec.softmaxScale);
      const added = linearReference(mlaOutputReference(shape, attended, kvB.values, 1), output.values, 1, hidden, nHeads * vHeadDim);
      const expected = Float64Array.from(stream);
      for (let i = 0; i < hidden; i++) expected[i] = (x[i] ?? 0) + (added[i] ?? 0);
      for (const result of results) assertClose(result, expected, TOLERANCE, `x of ${name}`);
    }
  });
}
