/** Rows of the embedding table by token id, and the first dispatch of a step (shaders/embedding/embedding.wgsl). */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import { MAX_DRAFTS, type Step } from "../batch.ts";
import { FORMAT_BYTES, type WeightMatrix, formatConstants } from "../weights.ts";

export interface EmbeddingSpec {
  /** [vocab, width] in bf16, f16 or f32. */
  readonly table: WeightMatrix;
  readonly step: Step;
  /** The token last sampled for each sequence slot, u32. */
  readonly lastTokens: GPUBuffer;
  /** The tokens last drafted for each: [MAX_DRAFTS, draftStride] u32. */
  readonly lastDrafts: GPUBuffer;
  readonly draftStride: number;
  /** Where the batch has tokens and places that only the last verified step knows: what that left (settle/kernel.ts). The places are put into the batch. */
  readonly chained?: { readonly ring: GPUBuffer; readonly ringRows: number; readonly settled: GPUBuffer } | undefined;
  /** [tokens, outStride] f32; a multiple of 4, at least the table's stride. */
  readonly out: GPUBuffer;
  readonly outStride: number;
  /** Sizes the grid. */
  readonly tokens: number;
  readonly label?: string;
}

/**
 * One dispatch for each part of the table.
 * @throws RangeError for an fp8 table.
 */
export async function embedding(gpu: GpuContext, spec: EmbeddingSpec): Promise<readonly Dispatch[]> {
  const { table, step, lastTokens, lastDrafts, draftStride, chained, out, outStride, tokens, label = "embedding" } = spec;
  if (table.format === "fp8") throw new RangeError("Cannot look up embeddings: the table is fp8, expected bf16, f16 or f32");
  const dispatches: Dispatch[] = [];
  for (const part of table.parts) {
    const kernel = await gpu.kernel(
      "embedding/embedding.wgsl",
      {
        ...formatConstants(gpu, table.format),
        MAX_TOKENS: step.maxTokens,
        VOCAB: table.rows,
        ROW_START: part.rowStart,
        ROW_COUNT: part.rows,
        CHUNKS: table.stride / 16,
        OUT_STRIDE: outStride,
        MAX_DRAFTS,
        DRAFT_STRIDE: draftStride,
        CHAINED: chained !== undefined,
        ...(chained && { RING_ROWS: chained.ringRows }),
      },
      label,
    );
    const buffers = {
      weights: part.buffer,
      batch: step.batch,
      last_tokens: lastTokens,
      last_drafts: lastDrafts,
      out,
      ...(chained && { ring: chained.ring, settled: chained.settled }),
    };
    const bytes = tokens * table.stride * (FORMAT_BYTES[table.format] + 4);
    dispatches.push(kernel.dispatch(buffers, [tokens, 1, 1], { bytes }, label));
  }
  return dispatches;
}
