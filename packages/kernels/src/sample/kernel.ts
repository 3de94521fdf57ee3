/** The next token of every output row, on the GPU (shaders/sample/): greedy in two dispatches, sampled in four. */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import type { Step } from "../batch.ts";

/** Columns that one workgroup looks through. */
const TILE = 1024;
/** Above it the sums of select.wgsl could overflow. */
export const MAX_SAMPLED_VOCAB = 250_000;

export interface SampleSpec {
  /** Logits [outputs, logitsStride] f32; the stride is a multiple of 4. NaN counts as minus infinity. */
  readonly logits: GPUBuffer;
  readonly logitsStride: number;
  readonly vocab: number;
  /** Row i is for the sequence, and the position after, of the token `outputRows[i]` of this batch. */
  readonly step: Step;
  /** Rows of this step, for the grids alone. */
  readonly outputs: number;
  /** `greedy` takes the likeliest token of every row, `params` or not. */
  readonly mode: "greedy" | "sample";
  /** [sequence slots, SAMPLING_PARAM_WORDS], rows by `encodeSamplingParams`. */
  readonly params: GPUBuffer;
  /** [sequence slots] u32: gets the token. */
  readonly lastTokens: GPUBuffer;
  /** [.., ringRows] u32: the row that the batch names gets the token of output i in column i. */
  readonly ring: GPUBuffer;
  readonly ringRows: number;
  /** `sampleScratchBytes` bytes. */
  readonly scratch: GPUBuffer;
  readonly label?: string;
}

/** Bytes of scratch for so many output rows. */
export function sampleScratchBytes(vocab: number, maxOutputs: number): number {
  return maxOutputs * scratchPairs(vocab) * 8;
}

/** A row's pairs of words: what the filters found, then a winner a tile. */
export function scratchPairs(vocab: number): number {
  return 2 + Math.ceil(vocab / TILE);
}

/**
 * Chooses a token for every output row and writes it to `lastTokens` and `ring`. Ties go to the lower token. Filters apply in the order temperature, top-k, top-p, min-p;
 * the draw depends on the row's logits, its params and the new token's position, and on nothing else in the batch.
 */
export async function sample(gpu: GpuContext, spec: SampleSpec): Promise<readonly Dispatch[]> {
  const { logits, logitsStride, vocab, step, outputs, mode, params, lastTokens, ring, ringRows, scratch, label = "sample" } = spec;
  if (vocab < 1 || vocab > MAX_SAMPLED_VOCAB)
    throw new RangeError(`Cannot sample from ${vocab} tokens, expected 1 to ${MAX_SAMPLED_VOCAB}`);
  const tiles = Math.ceil(vocab / TILE);
  const columns = { VOCAB: vocab, ROW_VECTORS: logitsStride / 4, TILES: tiles };
  const { batch, maxTokens } = step;
  const cost = { bytes: outputs * vocab * 4 };
  const grid = [tiles, outputs, 1] as const;
  const argmax = await gpu.kernel("sample/tiles.wgsl", { ...columns, DRAW: false }, `${label}.tiles`);
  const dispatches: Dispatch[] = [argmax.dispatch({ logits, scratch }, grid, cost)];
  if (mode === "sample") {
    const select = await gpu.kernel("sample/select.wgsl", { ...columns, MAX_TOKENS: maxTokens }, `${label}.select`);
    dispatches.push(select.dispatch({ logits, scratch, batch, params }, [outputs, 1, 1]));
    const draw = await gpu.kernel("sample/tiles.wgsl", { ...columns, DRAW: true, MAX_TOKENS: maxTokens }, `${label}.draw`);
    dispatches.push(draw.dispatch({ logits, scratch, batch, params }, grid, cost));
  }
  const merge = await gpu.kernel("sample/merge.wgsl", { TILES: tiles, MAX_TOKENS: maxTokens, RING_ROWS: ringRows }, `${label}.merge`);
  dispatches.push(merge.dispatch({ scratch, batch, latest: lastTokens, ring }, [outputs, 1, 1]));
  return dispatches;
}
