/**
 * Tolerance: f32 caches 2e-6 of the largest value, which allows for rsqrt's 2 units in the last place; f16 caches half a unit in its last place more, 2^-11 of
 * the largest value. Rows that belong to no token of the step, and the padding, stay as they are.
 */
import type { GpuContext } from "@shoal/gpu";
import type { KvFormat, MlaShape } from "../mla.ts";
import {
  type ContractCase,
  type TestRow,
  assertClose,
  cacheElements,
  normals,
  padded,
  seededRandom,
  testSequences,
  withBuffers,
} from "../testing/mod.ts";
import { roundUp } from "../weights.ts";
import { kvWrite } from "./kernel.ts";
import { kvWriteReference } from "./reference.ts";

interface Case {
  readonly latent: number;
  readonly rope: number;
  readonly format: KvFormat;
  readonly blockSize: number;
  readonly rows: readonly TestRow[];
  readonly xOffset?: number;
}

const row = (sequence: number, position: number): TestRow => ({ sequence, position });

const CASES: readonly Case[] = [
  { latent: 1, rope: 2, format: "f32", blockSize: 1, rows: [row(0, 0)] },
  { latent: 31, rope: 6, format: "f32", blockSize: 4, rows: [row(0, 3), row(1, 4), row(0, 4)] },
  { latent: 512, rope: 64, format: "f32", blockSize: 16, rows: [row(2, 0), row(0, 15), row(0, 16), row(0, 17), row(1, 1021)] },
  { latent: 512, rope: 64, format: "f16", blockSize: 16, rows: [row(2, 0), row(0, 15), row(0, 16), row(0, 17), row(1, 37)], xOffset: 1536 },
  { latent: 97, rope: 16, format: "f16", blockSize: 7, rows: [row(0, 6), row(0, 7), row(3, 8)], xOffset: 12 },
];

export const kvWriteContract: readonly ContractCase[] = CASES.map((item, index) => ({
  name: `kvWrite() caches what f64 gives for ${JSON.stringify({ ...item, rows: item.rows.length })}`,
  run: (gpu) => check(gpu, item, index + 1),
}));

async function check(gpu: GpuContext, { latent, rope, format, blockSize, rows, xOffset = 0 }: Case, seed: number): Promise<void> {
  const random = seededRandom(seed);
  const shape: MlaShape = { nHeads: 1, qkNopeHeadDim: 1, qkRopeHeadDim: rope, vHeadDim: 1, kvLoraRank: latent };
  const width = latent + rope;
  await withBuffers(gpu, async (keep) => {
    const { step, cache, table, rowOf } = testSequences(gpu, random, keep, {
      shape,
      rows,
      format,
      blockSize,
      fill: (_, all) => all.fill(3),
    });
    const x = normals(random, rows.length * width);
    const gamma = normals(random, latent);
    const xStride = roundUp(xOffset + width, 16);
    const inPlace = new Float32Array(rows.length * xStride);
    for (let t = 0; t < rows.length; t++) inPlace.set(x.subarray(t * width, (t + 1) * width), t * xStride + xOffset);
    const xBuffer = keep(gpu.upload("x", inPlace, "activations"));
    const gammaBuffer = keep(gpu.upload("gamma", padded(gamma, 1, latent, roundUp(latent, 16)), "weights"));
    // One workgroup more than there are tokens must write nothing.
    gpu.submit(
      await kvWrite(gpu, { shape, step, cache, x: xBuffer, xStride, xOffset, gamma: gammaBuffer, epsilon: 1e-6, tokens: rows.length + 1 }),
    );
    const result = cacheElements(await gpu.read(cache.buffer), format);
    const rotated = kvWriteReference(
      shape,
      x,
      gamma,
      1e-6,
      table,
      rows.map(({ position }) => position),
    );
    const expected = new Float64Array(result.length).fill(3);
    for (const [t, at] of rows.entries()) {
      expected.fill(0, rowOf(at), rowOf(at) + cache.stride);
      expected.set(rotated.subarray(t * width, (t + 1) * width), rowOf(at));
    }
    assertClose(result, expected, { abs: 1e-7, rel: format === "f32" ? 2e-6 : 2 ** -11 + 2e-6 }, "cache");
  });
}
