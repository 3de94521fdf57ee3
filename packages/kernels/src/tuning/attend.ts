/** Attention of one token after a short context, in one dispatch or in several. Its first heads are compared. */
import { benchMatrix } from "../bench/pattern.ts";
import { kvWrite } from "../kvWrite/kernel.ts";
import { kvWriteReference } from "../kvWrite/reference.ts";
import type { MlaShape } from "../mla.ts";
import { attendsTogether, mlaAttend } from "../mlaAttend/kernel.ts";
import { mlaAttention, partialBytes } from "../mlaAttention/kernel.ts";
import { mlaAttentionReference } from "../mlaAttention/reference.ts";
import { attentionSplits } from "../mlaAttention/splits.ts";
import { mlaOutput } from "../mlaOutput/kernel.ts";
import { mlaOutputReference } from "../mlaOutput/reference.ts";
import { qAbsorb } from "../qAbsorb/kernel.ts";
import { qAbsorbReference } from "../qAbsorb/reference.ts";
import { assertClose, normals, testSequences } from "../testing/mod.ts";
import { BLOCK_SIZE, COMPARED_HEADS } from "./attention.ts";
import { TOLERANCE, type TuningCase } from "./case.ts";

const EPSILON = 1e-6;
const FORMAT = "f16";

/** @param context positions before the token: few */
export function attendCase(model: string, shape: MlaShape, context: number): TuningCase {
  const { nHeads, qkNopeHeadDim, qkRopeHeadDim, vHeadDim, kvLoraRank } = shape;
  return {
    op: "mlaAttend",
    name: `${model} attention after ${context}, in one dispatch or several, ${nHeads} heads, latent ${kvLoraRank}`,
    prepare: async (gpu, keep, random) => {
      const [width, queryWidth] = [kvLoraRank + qkRopeHeadDim, qkNopeHeadDim + qkRopeHeadDim];
      let elements: Float32Array = new Float32Array();
      const rows = [{ sequence: 0, position: context }];
      const fill = (_: unknown, all: Float32Array): void => {
        // f16 holds them all exactly.
        for (let i = 0; i < all.length; i++) all[i] = (random.integer(2048) - 1024) / 1024;
        elements = all;
      };
      const { step, cache, table, rowOf } = testSequences(gpu, random, keep, { shape, rows, format: FORMAT, blockSize: BLOCK_SIZE, fill });
      const matrix = { rows: nHeads * (qkNopeHeadDim + vHeadDim), cols: kvLoraRank, format: "fp8" } as const;
      const { matrix: kvB, rowsOf } = benchMatrix(gpu, keep, random, matrix);
      const input = normals(random, width);
      const norm = normals(random, kvLoraRank);
      const query = normals(random, nHeads * queryWidth);
      const upload = (label: string, values: Float64Array): GPUBuffer => keep(gpu.upload(label, Float32Array.from(values), "activations"));
      const [x, gamma, q] = [upload("x", input), upload("gamma", norm), upload("q", query)];
      const room = (label: string, size: number): GPUBuffer => keep(gpu.buffer({ label, size, kind: "activations" }));
      const [outStride, absorbedStride] = [nHeads * vHeadDim, nHeads * width];
      const out = room("out", outStride * 4);
      const absorbed = room("absorbed", absorbedStride * 4);
      const splits = attentionSplits(gpu, { nHeads, tokens: 1, contextTokens: context + 1 });
      const partial = room("partial", partialBytes(shape, 1, splits));
      const softmaxScale = 1 / Math.sqrt(width);
      const common = { shape, step, tokens: 1 };
      const write = { ...common, cache, x, xStride: width, gamma, epsilon: EPSILON };
      const several = async () => [
        ...(await kvWrite(gpu, write)),
        ...(await qAbsorb(gpu, { ...common, q, qStride: nHeads * queryWidth, kvB, out: absorbed, outStride: absorbedStride })),
        ...(await mlaAttention(gpu, { ...common, cache, q: absorbed, qStride: absorbedStride, partial, splits, softmaxScale })),
        ...(await mlaOutput(gpu, { ...common, partial, splits, kvB, out, outStride })),
      ];
      const some = { ...shape, nHeads: COMPARED_HEADS };
      elements.set(kvWriteReference(shape, input, norm, EPSILON, table, [context]), rowOf({ sequence: 0, position: context }));
      const weights = rowsOf(Array.from({ length: COMPARED_HEADS * (qkNopeHeadDim + vHeadDim) }, (_, row) => row));
      const latent = qAbsorbReference(some, query.subarray(0, COMPARED_HEADS * queryWidth), weights, table, [context]);
      const at = (_: number, position: number): number => rowOf({ sequence: 0, position });
      const attended = mlaAttentionReference(some, latent, elements, at, [context], softmaxScale);
      const expected = mlaOutputReference(some, attended, weights, 1);
      return {
        rounds: 1,
        outputs: [out],
        record: async () => {
          const spec = { ...write, q, qStride: nHeads * queryWidth, kvB, out, outStride, softmaxScale };
          return attendsTogether(gpu, spec) ? mlaAttend(gpu, spec) : several();
        },
        verify: async () => {
          const result = new Float32Array(await gpu.read(out, 0, COMPARED_HEADS * vHeadDim * 4));
          assertClose(result, expected, TOLERANCE, "values");
        },
      };
    },
  };
}
