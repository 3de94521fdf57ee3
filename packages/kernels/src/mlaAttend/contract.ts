/**
 * Tolerance: 5e-6 of the largest value, or as much as the variant states, where the cache is f32. An f16 cache rounds the step's rows, by up to 2^-11 of themselves: the reference attends to what the cache
 * holds afterwards. Rows of the cache that are not the step's, and outputs past the last head and the last token, stay as they are.
 */
import type { GpuContext } from "@shoal/gpu";
import { type HalvesLayout, halvesBytes } from "../matrix/halves.ts";
import { kvWriteReference } from "../kvWrite/reference.ts";
import { type KvFormat, kvRowElements } from "../kvRow.ts";
import type { MlaShape } from "../mla.ts";
import { mlaAttentionReference } from "../mlaAttention/reference.ts";
import { attendsInHalves } from "../mlaOutput/halves.ts";
import { mlaOutputReference } from "../mlaOutput/reference.ts";
import { qAbsorbReference } from "../qAbsorb/reference.ts";
import {
  type ContractCase,
  type TestRow,
  assertClose,
  cacheElements,
  decodeHalves,
  normals,
  padded,
  randomMatrix,
  runAndRead,
  seededRandom,
  testSequences,
  withBuffers,
} from "../testing/mod.ts";
import { supportedVariants } from "../variants.ts";
import { type WeightFormat, roundUp } from "../weights.ts";
import { mlaAttend } from "./kernel.ts";
import { attendScratchBytes } from "./matrices.ts";
import { attendTrials, attendVariants } from "./variants.ts";

interface Case {
  readonly sizes: readonly [heads: number, nope: number, rope: number, value: number, latent: number];
  /** Sequence and position of each row. */
  readonly rows: readonly (readonly [sequence: number, position: number])[];
  readonly format: WeightFormat;
  readonly kvFormat: KvFormat;
  readonly blockSize: number;
  /** Values are written as halves, where the device can. */
  readonly halves?: boolean;
  /** By matrices alone, which round queries and weights to 22 bits. */
  readonly matrices?: boolean;
}

const CASES: readonly Case[] = [
  { sizes: [1, 1, 4, 1, 16], rows: [[0, 0]], format: "f32", kvFormat: "f32", blockSize: 4 },
  {
    sizes: [3, 24, 8, 28, 48],
    rows: [
      [1, 37],
      [1, 38],
      [0, 0],
      [0, 1],
      [0, 2],
      [0, 3],
      [2, 300],
    ],
    format: "bf16",
    kvFormat: "f32",
    blockSize: 16,
  },
  {
    sizes: [2, 128, 64, 128, 512],
    rows: [
      [0, 130],
      [2, 9],
      [1, 511],
    ],
    format: "fp8",
    kvFormat: "f16",
    blockSize: 32,
  },
  {
    sizes: [3, 24, 8, 128, 96],
    rows: [
      [1, 37],
      [1, 38],
      [0, 0],
      [2, 300],
    ],
    format: "fp8",
    kvFormat: "f16",
    blockSize: 32,
    halves: true,
  },
  {
    sizes: [5, 17, 12, 133, 96],
    rows: [
      [0, 63],
      [0, 64],
      [0, 65],
      [1, 4],
    ],
    format: "fp8",
    kvFormat: "f16",
    blockSize: 7,
  },
  {
    sizes: [3, 16, 8, 24, 64],
    rows: [
      [0, 0],
      [1, 70],
      [1, 71],
      [2, 5],
      [3, 0],
    ],
    format: "bf16",
    kvFormat: "f16",
    blockSize: 8,
  },
  {
    sizes: [2, 65, 16, 9, 256],
    rows: [
      [0, 17],
      [0, 18],
    ],
    format: "f16",
    kvFormat: "f16",
    blockSize: 32,
  },
];

const BY_MATRICES = { format: "fp8", kvFormat: "f16", blockSize: 32, matrices: true } as const;
const ROWS: Case["rows"] = [
  [1, 37],
  [1, 38],
  [1, 39],
  [0, 0],
  [2, 300],
  [3, 31],
];

const MATRIX_CASES: readonly Case[] = [
  { ...BY_MATRICES, sizes: [16, 72, 16, 24, 96], rows: ROWS, halves: true },
  { ...BY_MATRICES, sizes: [32, 24, 32, 20, 48], rows: ROWS, blockSize: 20 },
  { ...BY_MATRICES, sizes: [16, 130, 16, 4, 32], rows: Array.from({ length: 36 }, (_, i) => [Math.floor(i / 4), 60 + (i % 4)] as const) },
  // Real ones fit few devices.
  { ...BY_MATRICES, sizes: [16, 128, 64, 128, 512], rows: [...ROWS, [4, 511]], halves: true },
];

export const mlaAttendContract: readonly ContractCase[] = [...CASES, ...MATRIX_CASES].map((item, index) => ({
  name: `mlaAttend() equals cache write, absorption, attention and values in f64 for ${JSON.stringify({ ...item, rows: item.rows.length })}`,
  run: (gpu) => check(gpu, item, index + 1),
}));

const EPSILON = 1e-6;

async function check(
  gpu: GpuContext,
  { sizes, rows: places, format, kvFormat, blockSize, halves: inHalves = false, matrices = false }: Case,
  seed: number,
): Promise<void> {
  const random = seededRandom(seed);
  const [nHeads, qkNopeHeadDim, qkRopeHeadDim, vHeadDim, kvLoraRank] = sizes;
  const shape: MlaShape = { nHeads, qkNopeHeadDim, qkRopeHeadDim, vHeadDim, kvLoraRank };
  const rows: readonly TestRow[] = places.map(([sequence, position]) => ({ sequence, position }));
  const tokens = rows.length;
  const key = { shape, kvFormat, format, tokens, hasRoom: matrices };
  const together = supportedVariants(gpu, matrices ? attendTrials(key) : attendVariants(gpu, key)).filter(
    ({ teams }) => matrices || teams !== undefined,
  );
  // Software adapters take seconds to compile each.
  const variants = gpu.adapter.isSoftware ? together.filter((_, index) => index === seed % together.length) : together;
  await withBuffers(gpu, async (keep) => {
    let before = new Float32Array();
    const { step, cache, table, rowOf } = testSequences(gpu, random, keep, {
      shape,
      rows,
      format: kvFormat,
      blockSize,
      fill: (place, all) => {
        for (let i = 0; i < all.length; i++) all[i] = (random.integer(2048) - 1024) / 1024;
        // What the step writes is not read before.
        for (const row of rows) all.fill(Number.NaN, place(row), place(row) + kvRowElements(shape));
        before = all.slice();
      },
    });
    const { matrix: kvB, values } = randomMatrix(gpu, random, { rows: nHeads * (qkNopeHeadDim + vHeadDim), cols: kvLoraRank, format });
    for (const part of kvB.parts) keep(part.buffer);
    if (kvB.scales) keep(kvB.scales);
    const [width, queryWidth, outWidth] = [kvLoraRank + qkRopeHeadDim, nHeads * (qkNopeHeadDim + qkRopeHeadDim), nHeads * vHeadDim];
    const x = normals(random, tokens * width);
    const gamma = normals(random, kvLoraRank);
    const q = normals(random, tokens * queryWidth);
    const xOffset = 16;
    const [xStride, qStride, outStride] = [roundUp(xOffset + width, 16), roundUp(queryWidth, 16) + 16, roundUp(outWidth, 16) + 16];
    const inPlace = new Float32Array(tokens * xStride);
    for (let t = 0; t < tokens; t++) inPlace.set(x.subarray(t * width, (t + 1) * width), t * xStride + xOffset);
    const xBuffer = keep(gpu.upload("x", inPlace, "activations"));
    const qBuffer = keep(gpu.upload("q", padded(q, tokens, queryWidth, qStride), "activations"));
    const gammaBuffer = keep(gpu.upload("gamma", padded(gamma, 1, kvLoraRank, roundUp(kvLoraRank, 16)), "weights"));
    const softmaxScale = 1 / Math.sqrt(width);
    const between = attendScratchBytes(shape, tokens + 1);
    const room = (label: string, size: number): GPUBuffer => keep(gpu.buffer({ label, size, kind: "activations" }));
    const scratch = matrices ? { absorbed: room("absorbed", between.absorbed), partial: room("partial", between.partial) } : undefined;
    const spec = {
      scratch,
      shape,
      step,
      cache,
      x: xBuffer,
      xStride,
      xOffset,
      gamma: gammaBuffer,
      epsilon: EPSILON,
      q: qBuffer,
      qStride,
      kvB,
    };
    const runs = [];
    const layout: HalvesLayout = { rows: tokens + 1, columns: outWidth, blocks: true, format: "fp8", products: 1 };
    const halved = inHalves && attendsInHalves(gpu, kvB, layout);
    for (const { name, tolerance = 5e-6 } of variants) {
      const size = halved ? halvesBytes(layout) / 4 : (tokens + 1) * outStride;
      const out = keep(gpu.upload("out", new Float32Array(size).fill(7), "activations"));
      const halves = halved ? { buffer: out, layout } : undefined;
      // One row of workgroups more than there are tokens must write nothing.
      const dispatches = await mlaAttend(gpu, { ...spec, out, outStride, halves, softmaxScale, tokens: tokens + 1, variant: name });
      runs.push({ name, tolerance, out, dispatches });
    }

    const positions = rows.map(({ position }) => position);
    const written = kvWriteReference(shape, x, gamma, EPSILON, table, positions);
    const expectedCache = Float64Array.from(before);
    for (const [t, row] of rows.entries()) {
      expectedCache.fill(0, rowOf(row), rowOf(row) + kvRowElements(shape));
      expectedCache.set(written.subarray(t * width, (t + 1) * width), rowOf(row));
    }
    const absorbed = qAbsorbReference(shape, q, values, table, positions);
    const original = await gpu.read(cache.buffer);
    for (const { name, tolerance, out, dispatches } of runs) {
      gpu.write(cache.buffer, 0, new Uint8Array(original));
      const result = await runAndRead(gpu, dispatches, out);
      const decoded = halved ? decodeHalves(await gpu.read(out), { layout }) : undefined;
      const held = cacheElements(await gpu.read(cache.buffer), shape, kvFormat);
      assertClose(held, expectedCache, { abs: 1e-7, rel: kvFormat === "f32" ? 2e-6 : 2 ** -11 + 2e-6 }, `cache of ${name}`);
      const at = (token: number, position: number): number => rowOf({ sequence: rows[token]?.sequence ?? 0, position });
      const attended = mlaAttentionReference(shape, absorbed, held, at, positions, softmaxScale);
      const product = mlaOutputReference(shape, attended, values, tokens);
      if (decoded)
        assertClose(decoded.subarray(0, tokens * outWidth), product, { abs: 1e-6, rel: 2 ** -11 + tolerance }, `halves of ${name}`);
      if (decoded) continue;
      const expected = new Float64Array((tokens + 1) * outStride).fill(7);
      for (let t = 0; t < tokens; t++) expected.set(product.subarray(t * outWidth, (t + 1) * outWidth), t * outStride);
      assertClose(result, expected, { abs: 1e-6, rel: tolerance }, `out of ${name}`);
    }
  });
}
