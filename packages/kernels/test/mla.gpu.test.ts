/** One layer's attention, cache to values, against the golden file (packages/model/test/fixtures/README.md, `mla.*`), and the rope table against `yarn671.*`. */
import { type DenoEngine, openDenoGpu } from "@shoal/gpu/deno";
import {
  type KvFormat,
  type MlaShape,
  kvRowBytes,
  kvRowElements,
  kvWrite,
  mlaAttention,
  mlaOutput,
  partialBytes,
  qAbsorb,
  ropeTable,
  roundUp,
} from "@shoal/kernels";
import { linearReference, rmsNormReference } from "../src/matvec/reference.ts";
import { assertClose, cacheElements, padded, unpadded, uploadBatch, withBuffers } from "@shoal/kernels/testing";
import { opsFixture } from "./fixture.ts";

// ops.json, `mla`.
const SHAPE: MlaShape = { nHeads: 3, qkNopeHeadDim: 16, qkRopeHeadDim: 8, vHeadDim: 24, kvLoraRank: 32 };
const HIDDEN = 96;
const Q_LORA_RANK = 40;
const TOKENS = 16;
const SOFTMAX_SCALE = 0.2646422579642267;
const EPSILON = 1e-6;
const BLOCK_SIZE = 4;
/** Blocks of the sequence, out of order; the sequence is slot 1. */
const BLOCK_TABLE = [0, 0, 0, 0, 3, 0, 4, 1];
const BLOCKS = 5;

interface Case {
  readonly format: KvFormat;
  readonly splits: number;
  /** Tokens of each step. */
  readonly chunk: number;
  readonly tolerance: number;
}

// f16 keeps 11 bits of keys and values: about 2^-11 of the largest result, and as much again through the scores.
const CASES: readonly Case[] = [
  { format: "f32", splits: 1, chunk: TOKENS, tolerance: 5e-6 },
  { format: "f32", splits: 3, chunk: 1, tolerance: 5e-6 },
  { format: "f16", splits: 2, chunk: 5, tolerance: 1e-3 },
  // e4m3 keeps 4 bits: half a unit in the last place is 2^-4 of a value, and the sums' errors are smaller than the largest value's.
  { format: "fp8", splits: 2, chunk: 5, tolerance: 2 ** -4 },
];

export async function tests(webgpu: DenoEngine): Promise<readonly { name: string; run: () => Promise<void> | void }[]> {
  const gpu = await openDenoGpu({ webgpu });
  const bytes = opsFixture();
  const tensor = (name: string): Float64Array => Float64Array.from(new Float32Array(bytes(name)));
  const cases = CASES.map((item) => ({
    name: `the attention kernels give the golden layer's values with a cache of ${item.format}, ${item.splits} splits, ${item.chunk} tokens a step`,
    run: () => golden(gpu, tensor, item),
  }));
  return [
    ...cases,
    { name: "ropeTable() equals the golden table of DeepSeek-V3", run: () => goldenTable(bytes) },
    { name: "every context closes", run: () => gpu.destroy() },
  ];
}

function goldenTable(bytes: (name: string) => ArrayBuffer): void {
  const invFreq = new Float32Array(bytes("yarn671.inv_freq"));
  const positions = new Int32Array(bytes("yarn671.positions"));
  const table = ropeTable(invFreq, Math.max(...positions) + 1, 1);
  const [cos, sin] = [new Float32Array(bytes("yarn671.cos_f32_angle")), new Float32Array(bytes("yarn671.sin_f32_angle"))];
  for (const [row, position] of positions.entries()) {
    const ours = table.subarray(position * invFreq.length * 2, (position + 1) * invFreq.length * 2);
    const theirs = Float64Array.from(ours, (_, i) => (i % 2 === 0 ? cos : sin)[row * invFreq.length + Math.floor(i / 2)] ?? Number.NaN);
    assertClose(ours, theirs, { abs: 1e-7 }, `position ${position}`);
  }
}

async function golden(
  gpu: Awaited<ReturnType<typeof openDenoGpu>>,
  tensor: (name: string) => Float64Array,
  { format, splits, chunk, tolerance }: Case,
): Promise<void> {
  const { nHeads, qkNopeHeadDim, qkRopeHeadDim, vHeadDim, kvLoraRank } = SHAPE;
  const kvWidth = kvLoraRank + qkRopeHeadDim;
  const qWidth = nHeads * (qkNopeHeadDim + qkRopeHeadDim);
  const outWidth = nHeads * vHeadDim;
  const x = tensor("mla.x");
  const latentQ = rmsNormReference(
    linearReference(x, tensor("mla.q_a_proj"), TOKENS, Q_LORA_RANK, HIDDEN),
    tensor("mla.q_a_layernorm"),
    TOKENS,
    Q_LORA_RANK,
    EPSILON,
  );
  const q = linearReference(latentQ, tensor("mla.q_b_proj"), TOKENS, qWidth, Q_LORA_RANK);
  const kv = linearReference(x, tensor("mla.kv_a_proj_with_mqa"), TOKENS, kvWidth, HIDDEN);
  const [cos, sin] = [tensor("mla.cos"), tensor("mla.sin")];
  const table = Float32Array.from({ length: cos.length * 2 }, (_, i) => (i % 2 === 0 ? cos : sin)[Math.floor(i / 2)] ?? 0);
  const strides = { kv: roundUp(kvWidth, 16), q: roundUp(qWidth, 16), absorbed: roundUp(nHeads * kvWidth, 16), out: roundUp(outWidth, 16) };

  await withBuffers(gpu, async (keep) => {
    const room = (label: string, size: number): GPUBuffer => keep(gpu.buffer({ label, size, kind: "activations" }));
    const upload = (label: string, data: Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer>): GPUBuffer =>
      keep(gpu.upload(label, data, "activations"));
    const weights = upload("kv_b_proj", new Float32Array(tensor("mla.kv_b_proj")));
    const rows = nHeads * (qkNopeHeadDim + vHeadDim);
    const kvB = { format: "f32", rows, cols: kvLoraRank, stride: kvLoraRank, parts: [{ buffer: weights, rowStart: 0, rows }] } as const;
    const cache = {
      buffer: room("cache", BLOCKS * BLOCK_SIZE * kvRowBytes(SHAPE, format)),
      format,
      blockSize: BLOCK_SIZE,
      rowBytes: kvRowBytes(SHAPE, format),
    };
    const gamma = upload("gamma", new Float32Array(tensor("mla.kv_a_layernorm")));
    const blockTable = upload("block table", Uint32Array.from(BLOCK_TABLE));
    const rope = upload("rope table", table);
    const absorbed = room("absorbed", chunk * strides.absorbed * 4);
    const partial = room("partial", partialBytes(SHAPE, chunk, splits));
    const out = room("out", chunk * strides.out * 4);
    const values = new Float64Array(TOKENS * outWidth);
    for (let first = 0; first < TOKENS; first += chunk) {
      const tokens = Math.min(chunk, TOKENS - first);
      const indices = Array.from({ length: tokens }, (_, i) => i);
      const batch = { tokens: indices, positions: indices.map((i) => first + i), sequences: indices.map(() => 1), outputRows: [] };
      const uploaded = uploadBatch(gpu, batch, chunk);
      keep(uploaded.batch);
      const step = { ...uploaded, blockTable, blocksPerSequence: 4, ropeTable: rope };
      const kvBuffer = upload("kv", padded(kv.subarray(first * kvWidth), tokens, kvWidth, strides.kv));
      const qBuffer = upload("q", padded(q.subarray(first * qWidth), tokens, qWidth, strides.q));
      const common = { shape: SHAPE, step, tokens };
      gpu.submit([
        ...(await kvWrite(gpu, { ...common, cache, x: kvBuffer, xStride: strides.kv, gamma, epsilon: EPSILON })),
        ...(await qAbsorb(gpu, { ...common, q: qBuffer, qStride: strides.q, kvB, out: absorbed, outStride: strides.absorbed })),
        ...(await mlaAttention(gpu, {
          ...common,
          cache,
          q: absorbed,
          qStride: strides.absorbed,
          partial,
          splits,
          softmaxScale: SOFTMAX_SCALE,
        })),
        ...(await mlaOutput(gpu, { ...common, partial, splits, kvB, out, outStride: strides.out })),
      ]);
      values.set(unpadded(new Float32Array(await gpu.read(out)), tokens, outWidth, strides.out), first * outWidth);
    }
    const elements = cacheElements(await gpu.read(cache.buffer), SHAPE, format);
    const cached = new Float64Array(TOKENS * kvWidth);
    const expected = new Float64Array(TOKENS * kvWidth);
    const [latents, keys] = [tensor("mla.latent_cache"), tensor("mla.rope_cache")];
    for (let t = 0; t < TOKENS; t++) {
      const row = ((BLOCK_TABLE[4 + Math.floor(t / BLOCK_SIZE)] ?? 0) * BLOCK_SIZE + (t % BLOCK_SIZE)) * kvRowElements(SHAPE);
      cached.set(elements.subarray(row, row + kvWidth), t * kvWidth);
      expected.set(latents.subarray(t * kvLoraRank, (t + 1) * kvLoraRank), t * kvWidth);
      expected.set(keys.subarray(t * qkRopeHeadDim, (t + 1) * qkRopeHeadDim), t * kvWidth + kvLoraRank);
    }
    assertClose(cached, expected, { abs: 1e-6, rel: tolerance }, "cache");
    assertClose(values, tensor("mla.attn"), { abs: 1e-6, rel: tolerance }, "attn");
  });
}
