/** Exact. */
import type { GpuContext } from "@shoal/gpu";
import { MAX_DRAFTS, TOKEN_FROM_SAMPLER, tokenFromDraft } from "../batch.ts";
import {
  type ContractCase,
  assertEqual,
  randomMatrix,
  runAndRead,
  seededRandom,
  unpadded,
  uploadBatch,
  withBuffers,
} from "../testing/mod.ts";
import { type WeightFormat, roundUp } from "../weights.ts";
import { embedding } from "./kernel.ts";
import { embeddingReference } from "./reference.ts";

interface Shape {
  readonly vocab: number;
  readonly width: number;
  readonly tokens: number;
  readonly format: WeightFormat;
  readonly partRows?: number;
}

const SHAPES: readonly Shape[] = [
  { vocab: 1, width: 1, tokens: 1, format: "f32" },
  { vocab: 31, width: 37, tokens: 7, format: "bf16" },
  { vocab: 300, width: 65, tokens: 50, format: "bf16", partRows: 128 },
  { vocab: 129, width: 1031, tokens: 3, format: "f16" },
];

export const embeddingContract: readonly ContractCase[] = SHAPES.map((shape, index) => ({
  name: `embedding() looks rows up, sampled and drafted tokens and bad ids included, for ${JSON.stringify(shape)}`,
  run: (gpu) => check(gpu, shape, index + 1),
}));

async function check(gpu: GpuContext, shape: Shape, seed: number): Promise<void> {
  const { vocab, width, tokens, format, partRows } = shape;
  const random = seededRandom(seed);
  await withBuffers(gpu, async (keep) => {
    const { matrix, values } = randomMatrix(gpu, random, { rows: vocab, cols: width, format, ...(partRows && { partRows }) });
    for (const part of matrix.parts) keep(part.buffer);
    const lastTokens = Uint32Array.from({ length: 5 }, () => random.integer(vocab));
    const draftStride = 7;
    const lastDrafts = Uint32Array.from({ length: MAX_DRAFTS * draftStride }, () => random.integer(vocab));
    const ids = Array.from({ length: tokens }, (_, t) =>
      t % 5 === 3
        ? TOKEN_FROM_SAMPLER
        : t % 5 === 2
          ? tokenFromDraft(random.integer(MAX_DRAFTS))
          : t % 7 === 6
            ? vocab + random.integer(9)
            : random.integer(vocab),
    );
    const sequences = ids.map(() => random.integer(5));
    const outStride = roundUp(width, 16) + 16;
    const step = uploadBatch(gpu, { tokens: ids, positions: ids.map(() => 0), sequences, outputRows: [] }, tokens + 2);
    keep(step.batch);
    const before = new Float32Array((tokens + 1) * outStride).fill(9);
    const out = keep(gpu.upload("out", before, "activations"));
    const last = keep(gpu.upload("last tokens", lastTokens, "activations"));
    const drafts = keep(gpu.upload("last drafts", lastDrafts, "activations"));
    // A grid of one token too many: the batch's count decides.
    const dispatches = await embedding(gpu, {
      table: matrix,
      step,
      lastTokens: last,
      lastDrafts: drafts,
      draftStride,
      out,
      outStride,
      tokens: tokens + 1,
    });
    const result = await runAndRead(gpu, dispatches, out);
    const expected = embeddingReference(values, vocab, width, ids, sequences, lastTokens, lastDrafts, draftStride);
    assertEqual(unpadded(result, tokens, width, outStride), expected, "out");
    for (let t = 0; t < tokens; t++)
      assertEqual(
        result.subarray(t * outStride + width, t * outStride + roundUp(width, 16)),
        new Float32Array(roundUp(width, 16) - width),
        "padding",
      );
    assertEqual(result.subarray(tokens * outStride), before.subarray(tokens * outStride), "the row after the last");
  });
}
