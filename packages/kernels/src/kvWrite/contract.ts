/**
 * Tolerance: f32 caches 2e-6 of the largest value, which allows for rsqrt's 2 units in the last place; f16 caches half a unit in its last place more, 2^-11 of
 * the largest value. fp8: each value half a step of its code, and scales as f32 values. With a norm that is exactly 1 its rows are those of rows.ts, bit for bit, at and beside every
 * midpoint between codes. Rows that belong to no token of the step, and the padding, stay as they are.
 */
import { type GpuContext, e4m3ToNumber } from "@shoal/gpu";
import { type KvFormat, kvRowBytes, kvRowElements } from "../kvRow.ts";
import type { MlaShape } from "../mla.ts";
import {
  type ContractCase,
  type TestRow,
  assertClose,
  assertEqual,
  cacheElements,
  normals,
  padded,
  seededRandom,
  testSequences,
  withBuffers,
} from "../testing/mod.ts";
import { SCALE_BLOCK, roundUp } from "../weights.ts";
import { kvWrite } from "./kernel.ts";
import { kvWriteReference } from "./reference.ts";
import { encodeKvRows } from "./rows.ts";

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
  { latent: 512, rope: 64, format: "fp8", blockSize: 16, rows: [row(2, 0), row(0, 15), row(0, 16), row(1, 37)], xOffset: 1536 },
  { latent: 158, rope: 6, format: "fp8", blockSize: 7, rows: [row(0, 6), row(0, 7), row(3, 8)] },
];

export const kvWriteContract: readonly ContractCase[] = [
  ...CASES.map((item, index) => ({
    name: `kvWrite() caches what f64 gives for ${JSON.stringify({ ...item, rows: item.rows.length })}`,
    run: (gpu: GpuContext) => check(gpu, item, index + 1),
  })),
  {
    name: "kvWrite() encodes e4m3 to nearest, ties to even, at and beside every midpoint, with scales that are one and that are not",
    run: checkCodes,
  },
];

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
    const bytes = await gpu.read(cache.buffer);
    const result = cacheElements(bytes, shape, format);
    const rotated = kvWriteReference(
      shape,
      x,
      gamma,
      1e-6,
      table,
      rows.map(({ position }) => position),
    );
    // fp8 keeps no zeros beyond the width.
    const stride = kvRowElements(shape);
    const expected = Float64Array.from(result, (_, i) => (format === "fp8" && i % stride >= width ? 0 : 3));
    for (const [t, at] of rows.entries()) {
      expected.fill(0, rowOf(at), rowOf(at) + stride);
      expected.set(rotated.subarray(t * width, (t + 1) * width), rowOf(at));
    }
    if (format === "fp8") {
      for (const [t, at] of rows.entries()) {
        const place = rowOf(at);
        const elements = result.subarray(place, place + stride);
        checkFp8Row(shape, elements, rotated.subarray(t * width, (t + 1) * width));
        expected.set(elements, place);
      }
      // 3 is 448 times a scale that f32 rounds.
      assertClose(result, expected, { abs: 1e-6 }, "rows of no token");
    } else assertClose(result, expected, { abs: 1e-7, rel: format === "f32" ? 2e-6 : 2 ** -11 + 2e-6 }, "cache");
  });
}

/** Half a step of a code of 4 bits is 2^-4 of its value; below 2^-6 of the scale, 2^-10 of that. */
function checkFp8Row({ kvLoraRank }: MlaShape, elements: Float32Array, expected: Float64Array): void {
  for (const [column, value] of expected.entries()) {
    const group = Math.floor(column / SCALE_BLOCK) * SCALE_BLOCK;
    const latents = expected.slice(group, Math.min(kvLoraRank, group + SCALE_BLOCK));
    const scale = latents.reduce((most, latent) => Math.max(most, Math.abs(latent)), 0) / 448;
    const magnitude = Math.abs(value);
    const code = Math.max(2 ** (Math.floor(Math.log2(magnitude / scale)) - 4), 2 ** -10) * scale;
    const allowed = (column < kvLoraRank ? code : magnitude * 2 ** -8) + magnitude * 4e-6;
    assertClose([elements[column] ?? Number.NaN], [value], { abs: allowed }, `column ${column}`);
  }
}

/** A row of ones has a norm of one, so what is cached is gamma: every code's value, every midpoint, and their neighbours, times a scale. */
async function checkCodes(gpu: GpuContext): Promise<void> {
  const codes = Array.from({ length: 0x7f }, (_, code) => e4m3ToNumber(code));
  const midpoints = codes.slice(1).map((value, index) => (value + (codes[index] ?? 0)) / 2);
  const values = [...codes, ...midpoints].flatMap((value) => [value, -neighbour(value, 1), neighbour(value, -1)]);
  // Each group's largest makes its scale.
  const groups: number[][] = [];
  for (let i = 0; i < values.length; i += SCALE_BLOCK - 1) groups.push([448, ...values.slice(i, i + SCALE_BLOCK - 1)]);
  const shape: MlaShape = { nHeads: 1, qkNopeHeadDim: 1, qkRopeHeadDim: 2, vHeadDim: 1, kvLoraRank: groups.length * SCALE_BLOCK };
  const { kvLoraRank } = shape;
  const rowBytes = kvRowBytes(shape, "fp8");
  await withBuffers(gpu, async (keep) => {
    const { step, cache, rowOf } = testSequences(gpu, seededRandom(1), keep, { shape, rows: [row(0, 0)], format: "fp8", blockSize: 1 });
    const start = (rowOf(row(0, 0)) / kvRowElements(shape)) * rowBytes;
    const xStride = roundUp(kvLoraRank + 2, 16);
    const x = keep(gpu.upload("x", new Float32Array(xStride).fill(1), "activations"));
    for (const scale of [1, 2 ** -20, 0.7, 3e-5, 1e30]) {
      const gamma = new Float32Array(kvLoraRank);
      for (const [group, members] of groups.entries())
        gamma.set(
          members.map((value) => value * scale),
          group * SCALE_BLOCK,
        );
      const gammaBuffer = keep(gpu.upload("gamma", gamma, "weights"));
      gpu.submit(await kvWrite(gpu, { shape, step, cache, x, xStride, gamma: gammaBuffer, epsilon: 0, tokens: 1, exact: true }));
      const elements = new Float32Array(kvRowElements(shape));
      elements.set(gamma);
      // Position 0 turns nothing.
      elements.fill(1, kvLoraRank, kvLoraRank + 2);
      const stored = new Uint8Array(await gpu.read(cache.buffer, start, rowBytes));
      assertEqual(stored, encodeKvRows(shape, "fp8", elements), `row with a scale of ${scale}`);
    }
  });
}

/** The f32 next to one that is not negative; of zero, zero and the least normal number: a device may flush what is smaller. */
function neighbour(value: number, by: 1 | -1): number {
  if (value === 0) return by > 0 ? 2 ** -126 : 0;
  const bits = new Uint32Array(Float32Array.of(value).buffer);
  bits[0] = (bits[0] ?? 0) + by;
  return new Float32Array(bits.buffer)[0] ?? Number.NaN;
}
