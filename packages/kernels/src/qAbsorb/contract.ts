/** Tolerance: sums are f32, 2e-6 of the largest result, for up to 128 terms. Columns past the last head and rows past the last token stay as they are. */
import type { GpuContext } from "@shoal/gpu";
import type { MlaShape } from "../mla.ts";
import {
  type ContractCase,
  type TestRow,
  assertClose,
  normals,
  oneIn,
  padded,
  randomMatrix,
  runAndRead,
  seededRandom,
  testSequences,
  withBuffers,
} from "../testing/mod.ts";
import { supportedVariants } from "../variants.ts";
import { type WeightFormat, roundUp } from "../weights.ts";
import { qAbsorb } from "./kernel.ts";
import { qAbsorbReference } from "./reference.ts";
import { qAbsorbVariants } from "./variants.ts";

/** [heads, nope, rope, value, latent] */
type Sizes = readonly [number, number, number, number, number];

interface Case {
  readonly sizes: Sizes;
  readonly tokens: number;
  readonly format: WeightFormat;
}

const CASES: readonly Case[] = [
  { sizes: [1, 1, 2, 1, 1], tokens: 1, format: "f32" },
  { sizes: [3, 16, 8, 24, 32], tokens: 3, format: "f32" },
  { sizes: [10, 24, 16, 20, 96], tokens: 1, format: "fp8" },
  { sizes: [5, 63, 6, 65, 129], tokens: 33, format: "fp8" },
  { sizes: [2, 128, 64, 128, 512], tokens: 11, format: "fp8" },
  { sizes: [2, 130, 4, 2, 36], tokens: 70, format: "bf16" },
  { sizes: [1, 32, 8, 32, 144], tokens: 65, format: "f32" },
  { sizes: [4, 24, 16, 28, 48], tokens: 2, format: "bf16" },
  { sizes: [3, 17, 4, 9, 127], tokens: 1, format: "f16" },
];

export const qAbsorbContract: readonly ContractCase[] = CASES.map((item, index) => ({
  name: `qAbsorb() equals the f64 product for ${JSON.stringify(item)}`,
  run: (gpu) => check(gpu, item, index + 1),
}));

async function check(gpu: GpuContext, { sizes, tokens, format }: Case, seed: number): Promise<void> {
  const random = seededRandom(seed);
  const [nHeads, qkNopeHeadDim, qkRopeHeadDim, vHeadDim, kvLoraRank] = sizes;
  const shape: MlaShape = { nHeads, qkNopeHeadDim, qkRopeHeadDim, vHeadDim, kvLoraRank };
  const rows: TestRow[] = Array.from({ length: tokens }, () => ({ sequence: 0, position: random.integer(500) }));
  await withBuffers(gpu, async (keep) => {
    const { step, table } = testSequences(gpu, random, keep, { shape, rows, format: "f16", blockSize: 64 });
    const { matrix, values } = randomMatrix(gpu, random, { rows: nHeads * (qkNopeHeadDim + vHeadDim), cols: kvLoraRank, format });
    for (const part of matrix.parts) keep(part.buffer);
    if (matrix.scales) keep(matrix.scales);
    const inWidth = nHeads * (qkNopeHeadDim + qkRopeHeadDim);
    const outWidth = nHeads * (kvLoraRank + qkRopeHeadDim);
    const q = normals(random, tokens * inWidth);
    const qStride = roundUp(inWidth, 16) + 16;
    const outStride = roundUp(outWidth, 16);
    const qBuffer = keep(gpu.upload("q", padded(q, tokens, inWidth, qStride), "activations"));
    const spec = { shape, step, q: qBuffer, qStride, kvB: matrix, outStride, tokens: tokens === 1 ? 1 : tokens + 1 };
    const runs = [];
    for (const { name } of oneIn(
      gpu.adapter.isSoftware ? 3 : 1,
      supportedVariants(gpu, qAbsorbVariants(gpu, { tokens: spec.tokens, nope: qkNopeHeadDim })),
      seed,
    )) {
      const out = keep(gpu.upload("out", new Float32Array((tokens + 1) * outStride).fill(7), "activations"));
      runs.push({ name, out, dispatches: await qAbsorb(gpu, { ...spec, out, variant: name }) });
    }
    const absorbed = qAbsorbReference(
      shape,
      q,
      values,
      table,
      rows.map(({ position }) => position),
    );
    const expected = new Float64Array((tokens + 1) * outStride).fill(7);
    for (let t = 0; t < tokens; t++) expected.set(absorbed.subarray(t * outWidth, (t + 1) * outWidth), t * outStride);
    for (const { name, out, dispatches } of runs) {
      const result = await runAndRead(gpu, dispatches, out);
      assertClose(result, expected, { abs: 1e-6, rel: 2e-6 }, `out of ${name}`);
    }
  });
}
