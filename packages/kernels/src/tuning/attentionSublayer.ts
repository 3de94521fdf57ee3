/**
 * The attention of a small layer, in one dispatch or in several, of one token after a short context. What it adds to the residual stream is compared. A small model's weights stay in a GPU's
 * caches from step to step, so they do here: there are no copies of them.
 */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import { attentionBoardBytes, attendsInSublayer, attentionSublayer } from "../attentionSublayer/kernel.ts";
import type { AttentionSublayerSpec } from "../attentionSublayer/spec.ts";
import type { Keep } from "../bench/case.ts";
import { benchMatrix } from "../bench/pattern.ts";
import { kvWrite } from "../kvWrite/kernel.ts";
import { kvWriteReference } from "../kvWrite/reference.ts";
import { matvec } from "../matvec/kernel.ts";
import { linearReference, rmsNormReference } from "../matvec/reference.ts";
import { attendsTogether, mlaAttend } from "../mlaAttend/kernel.ts";
import { mlaAttention, partialBytes } from "../mlaAttention/kernel.ts";
import { mlaAttentionReference } from "../mlaAttention/reference.ts";
import { attentionSplits } from "../mlaAttention/splits.ts";
import { mlaOutput } from "../mlaOutput/kernel.ts";
import { mlaOutputReference } from "../mlaOutput/reference.ts";
import { qAbsorb } from "../qAbsorb/kernel.ts";
import { qAbsorbReference } from "../qAbsorb/reference.ts";
import { assertClose, normals, testSequences } from "../testing/mod.ts";
import { SCALE_BLOCK, roundUp } from "../weights.ts";
import { BLOCK_SIZE } from "./attention.ts";
import { EPSILON, TOLERANCE, type TuningCase } from "./case.ts";
import type { TuningLayer } from "./shapes.ts";

const FORMAT = "fp8";
const KV_FORMAT = "f16";
/** Bindings start at multiples of so many elements. */
const BINDING_START = 64;

/** @param context positions before the token: few */
export function attentionSublayerCase({ name, hidden, mla: shape, qLoraRank }: TuningLayer, context: number): TuningCase {
  const { nHeads, qkNopeHeadDim, qkRopeHeadDim, vHeadDim, kvLoraRank } = shape;
  return {
    op: "attentionSublayer",
    alone: true,
    name: `${name} attention sublayer after ${context}, in one dispatch or several, ${nHeads} heads, hidden ${hidden} ${FORMAT}`,
    prepare: async (gpu, keep, random) => {
      const width = kvLoraRank + qkRopeHeadDim;
      const row = { sequence: 0, position: context };
      let elements: Float32Array = new Float32Array();
      const fill = (_: unknown, all: Float32Array): void => {
        // f16 holds them all exactly.
        for (let i = 0; i < all.length; i++) all[i] = (random.integer(2048) - 1024) / 1024;
        elements = all;
      };
      const options = { shape, rows: [row], format: KV_FORMAT, blockSize: BLOCK_SIZE, fill } as const;
      const { step, cache, table, rowOf } = testSequences(gpu, random, keep, options);
      const weights = (rows: number, cols: number) => {
        const { matrix, rowsOf } = benchMatrix(gpu, keep, random, { rows, cols, format: FORMAT });
        return { matrix, values: rowsOf(Array.from({ length: rows }, (_, index) => index)) };
      };
      const kvStart = roundUp(qLoraRank, SCALE_BLOCK);
      const input = weights(kvStart + width, hidden);
      const queryB = weights(nHeads * (qkNopeHeadDim + qkRopeHeadDim), qLoraRank);
      const kvB = weights(nHeads * (qkNopeHeadDim + vHeadDim), kvLoraRank);
      const output = weights(hidden, nHeads * vHeadDim);
      const gammas = { input: normals(random, hidden), query: normals(random, qLoraRank), latent: normals(random, kvLoraRank) };
      const queryStart = roundUp(hidden, BINDING_START);
      const latentStart = queryStart + roundUp(qLoraRank, BINDING_START);
      const norms = new Float32Array(latentStart + kvLoraRank);
      norms.set(gammas.input);
      norms.set(gammas.query, queryStart);
      norms.set(gammas.latent, latentStart);
      const values = normals(random, hidden);
      const before = Float32Array.from(values);
      const x = keep(gpu.upload("x", before, "activations"));
      const spec = {
        shape,
        qLoraRank,
        step,
        cache,
        x,
        norms: { buffer: keep(gpu.upload("norms", norms, "weights")), queryStart, latentStart },
        epsilon: EPSILON,
        latentEpsilon: EPSILON,
        input: input.matrix,
        kvStart,
        queryB: queryB.matrix,
        kvB: kvB.matrix,
        output: output.matrix,
        softmaxScale: 1 / Math.sqrt(width),
        board: keep(gpu.buffer({ label: "board", size: attentionBoardBytes(nHeads, hidden), kind: "activations" })),
      };
      const several = separately(gpu, keep, spec, context);

      const projected = linearReference(
        rmsNormReference(values, gammas.input, 1, hidden, EPSILON),
        input.values,
        1,
        kvStart + width,
        hidden,
      );
      const queryLatent = rmsNormReference(projected.subarray(0, qLoraRank), gammas.query, 1, qLoraRank, EPSILON);
      const query = linearReference(queryLatent, queryB.values, 1, queryB.matrix.rows, qLoraRank);
      elements.set(kvWriteReference(shape, projected.subarray(kvStart), gammas.latent, EPSILON, table, [context]), rowOf(row));
      const at = (_: number, position: number): number => rowOf({ sequence: 0, position });
      const absorbed = qAbsorbReference(shape, query, kvB.values, table, [context]);
      const attended = mlaAttentionReference(shape, absorbed, elements, at, [context], spec.softmaxScale);
      const expected = linearReference(mlaOutputReference(shape, attended, kvB.values, 1), output.values, 1, hidden, nHeads * vHeadDim);
      return {
        rounds: 1,
        outputs: [],
        changed: [
          { buffer: x, before },
          // With the token's row as no run leaves it.
          { buffer: cache.buffer, before: new Uint8Array(await gpu.read(cache.buffer)) },
        ],
        record: async () => (attendsInSublayer(gpu, spec) ? attentionSublayer(gpu, spec) : several()),
        verify: async () => {
          const result = new Float32Array(await gpu.read(x));
          const added = Float64Array.from(result, (value, index) => value - (before[index] ?? 0));
          assertClose(added, expected, TOLERANCE, "what was added to x");
        },
      };
    },
  };
}

/** What a model records in its place (packages/model/src/layer/). */
function separately(gpu: GpuContext, keep: Keep, spec: AttentionSublayerSpec, context: number): () => Promise<readonly Dispatch[]> {
  const { shape, qLoraRank, step, cache, x, norms, epsilon, latentEpsilon, input, kvStart, queryB, kvB, output, softmaxScale } = spec;
  const { nHeads, qkRopeHeadDim, vHeadDim, kvLoraRank } = shape;
  const room = (label: string, size: number): GPUBuffer => keep(gpu.buffer({ label, size, kind: "activations" }));
  const [projectedStride, absorbedStride, outStride] = [input.rows, nHeads * (kvLoraRank + qkRopeHeadDim), nHeads * vHeadDim];
  const projected = room("projected", projectedStride * 4);
  const q = room("query", queryB.rows * 4);
  const absorbed = room("absorbed", absorbedStride * 4);
  const out = room("attention", outStride * 4);
  const splits = attentionSplits(gpu, { nHeads, tokens: 1, contextTokens: context + 1 });
  const partial = room("partial", partialBytes(shape, 1, splits));
  const gamma = (start: number, count: number) => ({ buffer: norms.buffer, offset: start * 4, size: count * 4 });
  const common = { shape, step, tokens: 1 };
  const latent = { x: projected, xStride: projectedStride, xOffset: kvStart, gamma: gamma(norms.latentStart, kvLoraRank) };
  const write = { ...common, ...latent, cache, epsilon: latentEpsilon };
  const query = { q, qStride: queryB.rows, kvB };
  const attend = { ...write, ...query, out, outStride, softmaxScale, scratch: { absorbed, partial } };
  const attention = async () => [
    ...(await kvWrite(gpu, write)),
    ...(await qAbsorb(gpu, { ...common, ...query, out: absorbed, outStride: absorbedStride })),
    ...(await mlaAttention(gpu, { ...common, cache, q: absorbed, qStride: absorbedStride, partial, splits, softmaxScale })),
    ...(await mlaOutput(gpu, { ...common, partial, splits, kvB, out, outStride })),
  ];
  const inputNorm = { gamma: gamma(0, input.stride), epsilon };
  const queryNorm = { gamma: gamma(norms.queryStart, qLoraRank), epsilon: latentEpsilon };
  const product = { tokens: 1, xStride: projectedStride };
  return async () => [
    ...(await matvec(gpu, { matrix: input, tokens: 1, x, xStride: input.cols, y: projected, yStride: projectedStride, norm: inputNorm })),
    ...(await matvec(gpu, { ...product, matrix: queryB, x: projected, y: q, yStride: queryB.rows, norm: queryNorm })),
    ...(await (attendsTogether(gpu, attend) ? mlaAttend(gpu, attend) : attention())),
    ...(await matvec(gpu, { matrix: output, tokens: 1, x: out, xStride: outStride, y: x, yStride: output.rows, residual: true })),
  ];
}
