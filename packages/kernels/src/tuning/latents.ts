/** What stands around attention: queries into the latent space, and the merge of its ranges with the way back to values. Only the last token's first heads are compared. */
import { benchMatrix } from "../bench/pattern.ts";
import type { MlaShape } from "../mla.ts";
import { partialBytes } from "../mlaAttention/kernel.ts";
import { mergeReference } from "../mlaAttention/reference.ts";
import { attentionSplits } from "../mlaAttention/splits.ts";
import { mlaOutput } from "../mlaOutput/kernel.ts";
import { mlaOutputReference } from "../mlaOutput/reference.ts";
import { qAbsorb } from "../qAbsorb/kernel.ts";
import { qAbsorbReference } from "../qAbsorb/reference.ts";
import { assertClose, normals, testSequences } from "../testing/mod.ts";
import { BLOCK_SIZE, COMPARED_HEADS } from "./attention.ts";
import { TOLERANCE, type TuningCase, countOf } from "./case.ts";

const FORMAT = "fp8";

export function absorbCase(model: string, shape: MlaShape, tokens: number): TuningCase {
  const { nHeads, qkNopeHeadDim, qkRopeHeadDim, kvLoraRank } = shape;
  return {
    op: "qAbsorb",
    name: `${model} query absorption, ${nHeads} heads, latent ${kvLoraRank}, ${countOf(tokens)}`,
    prepare: async (gpu, keep, random) => {
      const rows = rowsOfPrompt(tokens);
      const { step, table } = testSequences(gpu, random, keep, { shape, rows, format: "f16", blockSize: BLOCK_SIZE });
      const { matrix: kvB, rowsOf } = benchMatrix(gpu, keep, random, kvBShape(shape));
      const width = qkNopeHeadDim + qkRopeHeadDim;
      const outWidth = kvLoraRank + qkRopeHeadDim;
      const input = normals(random, tokens * nHeads * width);
      const q = keep(gpu.upload("q", Float32Array.from(input), "activations"));
      const out = keep(gpu.buffer({ label: "out", size: tokens * nHeads * outWidth * 4, kind: "activations" }));
      const first = (tokens - 1) * nHeads;
      const query = input.subarray(first * width, (first + COMPARED_HEADS) * width);
      const expected = qAbsorbReference(someHeads(shape), query, rowsOf(comparedRows(shape)), table, [tokens - 1]);
      return {
        rounds: 1,
        outputs: [out],
        record: () => qAbsorb(gpu, { shape, step, q, qStride: nHeads * width, kvB, out, outStride: nHeads * outWidth, tokens }),
        verify: async () => {
          const result = new Float32Array(await gpu.read(out, first * outWidth * 4, COMPARED_HEADS * outWidth * 4));
          assertClose(result, expected, TOLERANCE, "absorbed queries");
        },
      };
    },
  };
}

/** @param contextTokens that a run may have: as many ranges as that makes */
export function outputCase(model: string, shape: MlaShape, contextTokens: number, tokens: number): TuningCase {
  const { nHeads, vHeadDim, kvLoraRank } = shape;
  return {
    op: "mlaOutput",
    name: `${model} attention values, ${nHeads} heads, latent ${kvLoraRank}, context of ${contextTokens}, ${countOf(tokens)}`,
    prepare: async (gpu, keep, random) => {
      const rows = rowsOfPrompt(tokens);
      const { step } = testSequences(gpu, random, keep, { shape, rows, format: "f16", blockSize: BLOCK_SIZE });
      const { matrix: kvB, rowsOf } = benchMatrix(gpu, keep, random, kvBShape(shape));
      const splits = attentionSplits(gpu, { nHeads, tokens, contextTokens });
      const size = partialBytes(shape, 1, splits);
      const partial = keep(gpu.buffer({ label: "partial", size: tokens * size, kind: "activations" }));
      const records = new Float32Array(size / 4);
      const record = records.length / (splits * nHeads);
      for (let r = 0; r < splits * nHeads; r++) {
        const sum = 1 + random.uniform();
        for (let c = 0; c < kvLoraRank; c++) records[r * record + c] = (random.uniform() - 0.5) * sum;
        // The end of a record: the largest score, and the sum of the weights.
        records[(r + 1) * record - 4] = random.uniform();
        records[(r + 1) * record - 3] = sum;
      }
      for (let token = 0; token < tokens; token++) gpu.write(partial, token * size, records);
      const outStride = nHeads * vHeadDim;
      const out = keep(gpu.buffer({ label: "out", size: tokens * outStride * 4, kind: "activations" }));
      const merged = mergeReference(shape, records, 1, splits);
      const expected = mlaOutputReference(someHeads(shape), merged, rowsOf(comparedRows(shape)), 1);
      return {
        rounds: 1,
        outputs: [out],
        record: () => mlaOutput(gpu, { shape, step, partial, splits, kvB, out, outStride, tokens }),
        verify: async () => {
          const result = new Float32Array(await gpu.read(out, (tokens - 1) * outStride * 4, COMPARED_HEADS * vHeadDim * 4));
          assertClose(result, expected, TOLERANCE, "values");
        },
      };
    },
  };
}

function rowsOfPrompt(tokens: number) {
  return Array.from({ length: tokens }, (_, position) => ({ sequence: 0, position }));
}

function someHeads(shape: MlaShape): MlaShape {
  return { ...shape, nHeads: COMPARED_HEADS };
}

function kvBShape({ nHeads, qkNopeHeadDim, vHeadDim, kvLoraRank }: MlaShape) {
  return { rows: nHeads * (qkNopeHeadDim + vHeadDim), cols: kvLoraRank, format: FORMAT } as const;
}

/** Rows of kv_b_proj that the compared heads have. */
function comparedRows({ qkNopeHeadDim, vHeadDim }: MlaShape): readonly number[] {
  return Array.from({ length: COMPARED_HEADS * (qkNopeHeadDim + vHeadDim) }, (_, row) => row);
}
