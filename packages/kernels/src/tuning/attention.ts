/** Attention over the latent cache: of one decoded token, and of a prompt. Only the last tokens and first heads are compared. */
import { kvRowBytes } from "../kvRow.ts";
import type { MlaShape } from "../mla.ts";
import { mlaAttention, partialBytes } from "../mlaAttention/kernel.ts";
import { mergeReference, mlaAttentionReference } from "../mlaAttention/reference.ts";
import { attentionSplits } from "../mlaAttention/splits.ts";
import { assertClose, normals, testSequences } from "../testing/mod.ts";
import { TOLERANCE, type TuningCase, countOf } from "./case.ts";

export const COMPARED_HEADS = 2;
/** As the model has it. */
export const BLOCK_SIZE = 32;

/** @param tokens the last ones of `contextTokens` */
export function attentionCase(model: string, shape: MlaShape, contextTokens: number, tokens: number): TuningCase {
  const { nHeads, qkRopeHeadDim, kvLoraRank } = shape;
  return {
    op: "mlaAttention",
    name: `${model} attention, ${nHeads} heads, latent ${kvLoraRank}, context of ${contextTokens}, ${countOf(tokens)}`,
    prepare: async (gpu, keep, random) => {
      const width = kvLoraRank + qkRopeHeadDim;
      const positions = Array.from({ length: tokens }, (_, index) => contextTokens - tokens + index);
      let elements: ArrayLike<number> = [];
      const { step, cache, rowOf } = testSequences(gpu, random, keep, {
        shape,
        rows: positions.map((position) => ({ sequence: 0, position })),
        format: "f16",
        blockSize: BLOCK_SIZE,
        fill: (_, all) => {
          // f16 holds them all exactly.
          for (let i = 0; i < all.length; i++) all[i] = (random.integer(2048) - 1024) / 1024;
          elements = all;
        },
      });
      const input = normals(random, tokens * nHeads * width);
      const q = keep(gpu.upload("q", Float32Array.from(input), "activations"));
      const splits = attentionSplits(gpu, { nHeads, tokens, contextTokens });
      const size = partialBytes(shape, tokens, splits);
      const partial = keep(gpu.buffer({ label: "partial", size, kind: "activations" }));
      const softmaxScale = 1 / Math.sqrt(width);
      const last = tokens - 1;
      const query = input.subarray(last * nHeads * width, (last * nHeads + COMPARED_HEADS) * width);
      const at = (_: number, position: number): number => rowOf({ sequence: 0, position });
      const some = { ...shape, nHeads: COMPARED_HEADS };
      const expected = mlaAttentionReference(some, query, elements, at, [contextTokens - 1], softmaxScale);
      return {
        rounds: 1,
        outputs: [partial],
        record: () => mlaAttention(gpu, { shape, step, cache, q, qStride: nHeads * width, partial, splits, softmaxScale, tokens }),
        verify: async () => {
          const bytes = size / tokens;
          const merged = mergeReference(shape, new Float32Array(await gpu.read(partial, last * bytes, bytes)), 1, splits);
          assertClose(merged.subarray(0, COMPARED_HEADS * kvLoraRank), expected, TOLERANCE, "attended latents");
        },
      };
    },
  };
}

/** Bytes of the cache that a case has, for choosing contexts that a binding holds. */
export function cacheBytes(shape: MlaShape, contextTokens: number): number {
  return (contextTokens + BLOCK_SIZE) * kvRowBytes(shape, "f16");
}
