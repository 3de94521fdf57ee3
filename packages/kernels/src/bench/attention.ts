/** Multi-head latent attention of one token over a long context. Only the first heads are compared. */
import type { GpuContext } from "@shoal/gpu";
import { type MlaShape, kvCacheStride } from "../mla.ts";
import { mlaAttention, partialBytes } from "../mlaAttention/kernel.ts";
import { mergeReference, mlaAttentionReference } from "../mlaAttention/reference.ts";
import { mlaOutput } from "../mlaOutput/kernel.ts";
import { mlaOutputReference } from "../mlaOutput/reference.ts";
import { qAbsorb } from "../qAbsorb/kernel.ts";
import { qAbsorbReference } from "../qAbsorb/reference.ts";
import { type Random, type TestSequences, assertClose, f16ToNumber, normals, numberToF16, testSequences } from "../testing/mod.ts";
import { roundUp } from "../weights.ts";
import { type BenchCases, type Keep, type Prepared, TOLERANCE } from "./case.ts";
import { benchMatrix } from "./pattern.ts";
import type { BenchShapes } from "./sizes.ts";

const COMPARED_HEADS = 2;
const BLOCK_SIZE = 64;

export const attentionCases: BenchCases = (shapes) => {
  const { nHeads, kvLoraRank } = shapes.mla;
  const what = `${nHeads} heads, latent ${kvLoraRank}`;
  return [
    { op: "qAbsorb", name: `${what}, fp8, 1 token`, prepare: (gpu, keep, random) => absorb(gpu, keep, random, shapes) },
    {
      op: "mlaAttention",
      name: `${what}, f16 cache of ${shapes.contextTokens}, 1 token`,
      prepare: (gpu, keep, random) => attention(gpu, keep, random, shapes),
    },
    { op: "mlaOutput", name: `${what}, fp8, 1 token`, prepare: (gpu, keep, random) => output(gpu, keep, random, shapes) },
  ];
};

function oneToken(
  gpu: GpuContext,
  keep: Keep,
  random: Random,
  shape: MlaShape,
  position: number,
  fill?: (all: Float32Array) => void,
): TestSequences {
  return testSequences(gpu, random, keep, {
    shape,
    rows: [{ sequence: 0, position }],
    format: "f16",
    blockSize: BLOCK_SIZE,
    ...(fill && { fill: (_: unknown, elements: Float32Array) => fill(elements) }),
  });
}

/** Rows of kv_b_proj that the compared heads have. */
function comparedRows({ qkNopeHeadDim, vHeadDim }: MlaShape): readonly number[] {
  return Array.from({ length: COMPARED_HEADS * (qkNopeHeadDim + vHeadDim) }, (_, row) => row);
}

function kvBShape({ nHeads, qkNopeHeadDim, vHeadDim, kvLoraRank }: MlaShape) {
  return { rows: nHeads * (qkNopeHeadDim + vHeadDim), cols: kvLoraRank, format: "fp8" as const };
}

async function absorb(gpu: GpuContext, keep: Keep, random: Random, { mla: shape, contextTokens }: BenchShapes): Promise<Prepared> {
  const { nHeads, qkNopeHeadDim, qkRopeHeadDim, kvLoraRank } = shape;
  const position = contextTokens - 1;
  const { step, table } = oneToken(gpu, keep, random, shape, position);
  const { matrix: kvB, rowsOf } = benchMatrix(gpu, keep, random, kvBShape(shape));
  const width = qkNopeHeadDim + qkRopeHeadDim;
  const outWidth = kvLoraRank + qkRopeHeadDim;
  const input = normals(random, nHeads * width);
  const q = keep(gpu.upload("q", Float32Array.from(input), "activations"));
  const out = keep(gpu.buffer({ label: "out", size: nHeads * outWidth * 4, kind: "activations" }));
  const dispatches = await qAbsorb(gpu, { shape, step, q, qStride: nHeads * width, kvB, out, outStride: nHeads * outWidth, tokens: 1 });
  const verify = async (): Promise<void> => {
    const some = { ...shape, nHeads: COMPARED_HEADS };
    const result = new Float32Array(await gpu.read(out, 0, COMPARED_HEADS * outWidth * 4));
    assertClose(result, qAbsorbReference(some, input, rowsOf(comparedRows(shape)), table, [position]), TOLERANCE, "absorbed queries");
  };
  return { dispatches, verify };
}

async function attention(gpu: GpuContext, keep: Keep, random: Random, shapes: BenchShapes): Promise<Prepared> {
  const { mla: shape, contextTokens, splits } = shapes;
  const { nHeads, qkRopeHeadDim, kvLoraRank } = shape;
  const width = kvLoraRank + qkRopeHeadDim;
  let elements: ArrayLike<number> = [];
  const position = contextTokens - 1;
  const { step, cache, rowOf } = oneToken(gpu, keep, random, shape, position, (all) => {
    for (let i = 0; i < all.length; i++) all[i] = f16ToNumber(numberToF16((random.integer(2048) - 1024) / 1024));
    elements = all;
  });
  const input = normals(random, nHeads * width);
  const q = keep(gpu.upload("q", Float32Array.from(input), "activations"));
  const size = partialBytes(shape, 1, splits);
  const partial = keep(gpu.buffer({ label: "partial", size, kind: "activations" }));
  const softmaxScale = 1 / Math.sqrt(width);
  const dispatches = await mlaAttention(gpu, { shape, step, cache, q, qStride: nHeads * width, partial, splits, softmaxScale, tokens: 1 });
  const verify = async (): Promise<void> => {
    const some = { ...shape, nHeads: COMPARED_HEADS };
    const merged = mergeReference(shape, new Float32Array(await gpu.read(partial, 0, size)), 1, splits);
    const at = (_: number, row: number): number => rowOf({ sequence: 0, position: row });
    const expected = mlaAttentionReference(some, input, elements, at, [position], softmaxScale);
    assertClose(merged.subarray(0, COMPARED_HEADS * kvLoraRank), expected, TOLERANCE, "attended latents");
  };
  // All heads share one read of the cache at best.
  const bytes = contextTokens * kvCacheStride(shape) * 2;
  return { dispatches, verify, bytes, flops: 2 * nHeads * contextTokens * (width + kvLoraRank) };
}

async function output(gpu: GpuContext, keep: Keep, random: Random, { mla: shape, splits }: BenchShapes): Promise<Prepared> {
  const { nHeads, vHeadDim, kvLoraRank } = shape;
  const { step } = oneToken(gpu, keep, random, shape, 0);
  const { matrix: kvB, rowsOf } = benchMatrix(gpu, keep, random, kvBShape(shape));
  const records = new Float32Array(partialBytes(shape, 1, splits) / 4);
  const record = records.length / (splits * nHeads);
  for (let r = 0; r < splits * nHeads; r++) {
    const sum = 1 + random.uniform();
    for (let c = 0; c < kvLoraRank; c++) records[r * record + c] = random.normal() * sum;
    records[(r + 1) * record - 4] = random.uniform();
    records[(r + 1) * record - 3] = sum;
  }
  const partial = keep(gpu.upload("partial", records, "activations"));
  const outStride = roundUp(nHeads * vHeadDim, 16);
  const out = keep(gpu.buffer({ label: "out", size: outStride * 4, kind: "activations" }));
  const dispatches = await mlaOutput(gpu, { shape, step, partial, splits, kvB, out, outStride, tokens: 1 });
  const verify = async (): Promise<void> => {
    const some = { ...shape, nHeads: COMPARED_HEADS };
    const result = new Float32Array(await gpu.read(out, 0, COMPARED_HEADS * vHeadDim * 4));
    const merged = mergeReference(shape, records, 1, splits);
    assertClose(result, mlaOutputReference(some, merged, rowsOf(comparedRows(shape)), 1), TOLERANCE, "values");
  };
  return { dispatches, verify };
}
