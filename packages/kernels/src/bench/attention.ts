/**
 * Multi-head latent attention at DeepSeek-V3's and V2-Lite's shapes: decoding at several contexts, and a prompt, by every variant. Only the first heads of the last
 * tokens are compared.
 */
import type { GpuContext } from "@shoal/gpu";
import { kvRowBytes } from "../kvRow.ts";
import type { MlaShape } from "../mla.ts";
import { mlaAttention, partialBytes } from "../mlaAttention/kernel.ts";
import { mergeReference, mlaAttentionReference } from "../mlaAttention/reference.ts";
import { attentionSplits } from "../mlaAttention/splits.ts";
import { mlaAttentionVariants } from "../mlaAttention/variants.ts";
import { mlaOutput } from "../mlaOutput/kernel.ts";
import { mlaOutputReference } from "../mlaOutput/reference.ts";
import { mlaOutputVariants } from "../mlaOutput/variants.ts";
import { qAbsorb } from "../qAbsorb/kernel.ts";
import { qAbsorbReference } from "../qAbsorb/reference.ts";
import { qAbsorbVariants } from "../qAbsorb/variants.ts";
import { type Random, type TestSequences, assertClose, testSequences } from "../testing/mod.ts";
import { supportedVariants } from "../variants.ts";
import { type BenchCases, type Keep, type Prepared, TOLERANCE } from "./case.ts";
import { benchMatrix } from "./pattern.ts";

const COMPARED_HEADS = 2;
/** As the model has it. */
const BLOCK_SIZE = 32;
const V2_LITE: MlaShape = { nHeads: 16, qkNopeHeadDim: 128, qkRopeHeadDim: 64, vHeadDim: 128, kvLoraRank: 512 };
/** Context that a device is opened for: as many ranges as that makes. */
const MOST_CONTEXT = 32_768;

interface Case {
  readonly shape: MlaShape;
  readonly tokens: number;
  /** Positions that the last token attends to. */
  readonly context: number;
  /** Whether each token is of a sequence of its own, all equally long; otherwise they are the last ones of one sequence. */
  readonly batch?: boolean;
}

export const attentionCases: BenchCases = ({ mla, contextTokens, tokens }, gpu) => {
  const { isSoftware } = gpu.adapter;
  const shapes = isSoftware ? [mla] : [mla, V2_LITE];
  const contexts = isSoftware ? [contextTokens] : [128, 1024, 8192, 32_768];
  const batches: readonly Case[] = isSoftware ? [] : [{ shape: V2_LITE, tokens: 32, context: 512, batch: true }];
  const attended = [
    ...shapes.flatMap((shape) => contexts.map((context) => ({ shape, tokens: 1, context }))),
    ...shapes.map((shape) => ({ shape, tokens, context: tokens })),
    ...batches,
  ];
  const projected = [...shapes.flatMap((shape) => [1, tokens].map((count) => ({ shape, tokens: count, context: 8192 }))), ...batches];
  return [
    ...projected.flatMap((item) =>
      few(gpu, supportedVariants(gpu, qAbsorbVariants(gpu, { tokens: item.tokens, nope: item.shape.qkNopeHeadDim }))).map(({ name }) => ({
        op: "qAbsorb",
        name: `${what(item)}, fp8, ${name}`,
        prepare: (device: GpuContext, keep: Keep, random: Random) => absorb(device, keep, random, item, name),
      })),
    ),
    ...attended.flatMap((item) =>
      few(gpu, supportedVariants(gpu, mlaAttentionVariants(gpu, { ...item.shape, format: "f16" }))).map(({ name }) => ({
        op: "mlaAttention",
        name: `${what(item)}, context ${item.context}, f16 cache, ${name}`,
        prepare: (device: GpuContext, keep: Keep, random: Random) => attention(device, keep, random, item, name),
      })),
    ),
    ...projected.flatMap((item) => {
      const shape = {
        tokens: item.tokens,
        splits: splitsOf(gpu, item),
        stride: item.shape.kvLoraRank,
        value: item.shape.vHeadDim,
        format: "fp8",
      } as const;
      return few(gpu, supportedVariants(gpu, mlaOutputVariants(gpu, shape))).map(({ name }) => ({
        op: "mlaOutput",
        name: `${what(item)}, ${shape.splits} ranges, fp8, ${name}`,
        prepare: (device: GpuContext, keep: Keep, random: Random) => output(device, keep, random, item, shape.splits, name),
      }));
    }),
  ];
};

/** Software adapters time nothing that matters: the default only. */
function few<V>(gpu: GpuContext, variants: readonly V[]): readonly V[] {
  return gpu.adapter.isSoftware ? variants.slice(0, 1) : variants;
}

function what({ shape: { nHeads, kvLoraRank }, tokens, batch = false }: Case): string {
  const count = `${tokens} ${batch ? "sequences" : tokens === 1 ? "token" : "tokens"}`;
  return `${nHeads} heads, latent ${kvLoraRank}, ${count}`;
}

function splitsOf(gpu: GpuContext, { shape: { nHeads }, tokens }: Case): number {
  return attentionSplits(gpu, { nHeads, tokens, contextTokens: MOST_CONTEXT });
}

function sequences(
  gpu: GpuContext,
  keep: Keep,
  random: Random,
  { shape, tokens, context, batch = false }: Case,
  fill?: (all: Float32Array) => void,
): TestSequences & { readonly positions: readonly number[] } {
  const rows = Array.from({ length: tokens }, (_, t) => ({
    sequence: batch ? t : 0,
    position: batch ? context - 1 : context - tokens + t,
  }));
  const made = testSequences(gpu, random, keep, {
    shape,
    rows,
    format: "f16",
    blockSize: BLOCK_SIZE,
    ...(fill && { fill: (_: unknown, elements: Float32Array) => fill(elements) }),
  });
  return { ...made, positions: rows.map(({ position }) => position) };
}

/** Rows of kv_b_proj that the compared heads have. */
function comparedRows({ qkNopeHeadDim, vHeadDim }: MlaShape): readonly number[] {
  return Array.from({ length: COMPARED_HEADS * (qkNopeHeadDim + vHeadDim) }, (_, row) => row);
}

function kvBShape({ nHeads, qkNopeHeadDim, vHeadDim, kvLoraRank }: MlaShape) {
  return { rows: nHeads * (qkNopeHeadDim + vHeadDim), cols: kvLoraRank, format: "fp8" as const };
}

/** From -1 to 1: normal numbers would take longer to make than all else. */
function uniforms(random: Random, count: number): Float64Array {
  return Float64Array.from({ length: count }, () => 2 * random.uniform() - 1);
}

/** The last token's first heads. */
function lastHeads(all: Float64Array, shape: MlaShape, tokens: number, width: number): Float64Array {
  const start = (tokens - 1) * shape.nHeads * width;
  return all.subarray(start, start + COMPARED_HEADS * width);
}

async function absorb(gpu: GpuContext, keep: Keep, random: Random, item: Case, variant: string): Promise<Prepared> {
  const { shape, tokens } = item;
  const { nHeads, qkNopeHeadDim, qkRopeHeadDim, kvLoraRank } = shape;
  const { step, table, positions } = sequences(gpu, keep, random, { ...item, context: Math.max(tokens, 512) });
  const { matrix: kvB, rowsOf } = benchMatrix(gpu, keep, random, kvBShape(shape));
  const width = qkNopeHeadDim + qkRopeHeadDim;
  const outWidth = kvLoraRank + qkRopeHeadDim;
  const input = uniforms(random, tokens * nHeads * width);
  const q = keep(gpu.upload("q", Float32Array.from(input), "activations"));
  const out = keep(gpu.buffer({ label: "out", size: tokens * nHeads * outWidth * 4, kind: "activations" }));
  const strides = { qStride: nHeads * width, outStride: nHeads * outWidth };
  const dispatches = await qAbsorb(gpu, { shape, step, q, kvB, out, ...strides, tokens, variant });
  const verify = async (): Promise<void> => {
    const result = new Float32Array(await gpu.read(out, (tokens - 1) * nHeads * outWidth * 4, COMPARED_HEADS * outWidth * 4));
    const query = lastHeads(input, shape, tokens, width);
    const some = { ...shape, nHeads: COMPARED_HEADS };
    const expected = qAbsorbReference(some, query, rowsOf(comparedRows(shape)), table, positions.slice(-1));
    assertClose(result, expected, TOLERANCE, `absorbed queries of ${variant}`);
  };
  return { dispatches, verify };
}

async function attention(gpu: GpuContext, keep: Keep, random: Random, item: Case, variant: string): Promise<Prepared> {
  const { shape, tokens, context, batch = false } = item;
  const { nHeads, qkRopeHeadDim, kvLoraRank } = shape;
  const width = kvLoraRank + qkRopeHeadDim;
  let elements: ArrayLike<number> = [];
  const { step, cache, rowOf, positions } = sequences(gpu, keep, random, item, (all) => {
    // f16 holds them all exactly.
    for (let i = 0; i < all.length; i++) all[i] = (random.integer(2048) - 1024) / 1024;
    elements = all;
  });
  const input = uniforms(random, tokens * nHeads * width);
  const q = keep(gpu.upload("q", Float32Array.from(input), "activations"));
  const splits = splitsOf(gpu, item);
  const partial = keep(gpu.buffer({ label: "partial", size: partialBytes(shape, tokens, splits), kind: "activations" }));
  const softmaxScale = 1 / Math.sqrt(width);
  const spec = { shape, step, cache, q, qStride: nHeads * width, partial, splits, softmaxScale, tokens };
  const dispatches = await mlaAttention(gpu, { ...spec, variant });
  const verify = async (): Promise<void> => {
    const size = partialBytes(shape, 1, splits);
    const merged = mergeReference(shape, new Float32Array(await gpu.read(partial, (tokens - 1) * size, size)), 1, splits);
    const at = (_: number, position: number): number => rowOf({ sequence: batch ? tokens - 1 : 0, position });
    const some = { ...shape, nHeads: COMPARED_HEADS };
    const query = lastHeads(input, shape, tokens, width);
    const expected = mlaAttentionReference(some, query, elements, at, [context - 1], softmaxScale);
    assertClose(merged.subarray(0, COMPARED_HEADS * kvLoraRank), expected, TOLERANCE, `attended latents of ${variant}`);
  };
  // All heads, and all tokens of a sequence, share one read of the cache at best.
  const bytes = (batch ? tokens : 1) * context * kvRowBytes(shape, "f16");
  const pairs = positions.reduce((sum, position) => sum + position + 1, 0);
  return { dispatches, verify, bytes, flops: 2 * nHeads * pairs * (width + kvLoraRank) };
}

async function output(gpu: GpuContext, keep: Keep, random: Random, item: Case, splits: number, variant: string): Promise<Prepared> {
  const { shape, tokens } = item;
  const { nHeads, vHeadDim, kvLoraRank } = shape;
  const { step } = sequences(gpu, keep, random, { ...item, context: Math.max(tokens, 512) });
  const { matrix: kvB, rowsOf } = benchMatrix(gpu, keep, random, kvBShape(shape));
  const size = partialBytes(shape, 1, splits);
  const partial = keep(gpu.buffer({ label: "partial", size: tokens * size, kind: "activations" }));
  // The same for every token.
  const records = new Float32Array(size / 4);
  const record = records.length / (splits * nHeads);
  for (let r = 0; r < splits * nHeads; r++) {
    const sum = 1 + random.uniform();
    for (let c = 0; c < kvLoraRank; c++) records[r * record + c] = (random.uniform() - 0.5) * sum;
    records[(r + 1) * record - 4] = random.uniform();
    records[(r + 1) * record - 3] = sum;
  }
  for (let t = 0; t < tokens; t++) gpu.write(partial, t * size, records);
  const outStride = nHeads * vHeadDim;
  const out = keep(gpu.buffer({ label: "out", size: tokens * outStride * 4, kind: "activations" }));
  const dispatches = await mlaOutput(gpu, { shape, step, partial, splits, kvB, out, outStride, tokens, variant });
  const verify = async (): Promise<void> => {
    const result = new Float32Array(await gpu.read(out, (tokens - 1) * outStride * 4, COMPARED_HEADS * vHeadDim * 4));
    const some = { ...shape, nHeads: COMPARED_HEADS };
    const merged = mergeReference(shape, records, 1, splits);
    assertClose(result, mlaOutputReference(some, merged, rowsOf(comparedRows(shape)), 1), TOLERANCE, `values of ${variant}`);
  };
  return { dispatches, verify };
}
