/** The next token of every output row, on the GPU (shaders/sample/): greedy in one dispatch, sampled in three, or in eleven that many workgroups share. */
import type { BufferRange, Dispatch, GpuContext } from "@shoal/gpu";
import type { Step } from "../batch.ts";
import { checkBoard } from "../board.ts";
import { prefersTeams, sizeClass } from "../rowTeams.ts";
import { type Variant, chooseVariant } from "../variants.ts";
import { roundUp } from "../weights.ts";

/** Columns that one workgroup looks through. */
const TILE = 1024;
/** Above it the sums of select.wgsl could overflow. */
export const MAX_SAMPLED_VOCAB = 250_000;

/** Digits that passes.wgsl sums weights by: four of each filter's last key. */
const PASSES = 8;
/** Words that a digit's sums take. */
const PASS_SUMS = 512;
/** Words that a row needs for what passes know. */
const PASS_STATE = 5;
const SUM_WORDS = PASSES * (PASS_SUMS + PASS_STATE);
/** What bindings may begin at, everywhere. */
const BINDING_ALIGNMENT = 256;

/** How the tokens that may be drawn are found: one workgroup does a row, in one dispatch; or many do, a digit of the last kept logit's key each dispatch. */
const SELECT = { name: "select", constants: {} } as const satisfies Variant;
const PASS_BY_PASS = { name: "passes", constants: {} } as const satisfies Variant;

/** The device's default first. */
export function sampleVariants(gpu: GpuContext): readonly Variant[] {
  return prefersTeams(gpu) ? [PASS_BY_PASS, SELECT] : [SELECT, PASS_BY_PASS];
}

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
  /** How far the new token lies from the row's, 1 by default. A draft is 2: drawn as the model's own token there will be, so that the two agree as often as they can. */
  readonly ahead?: 1 | 2;
  /** [sequence slots, SAMPLING_PARAM_WORDS], rows by `encodeSamplingParams`. */
  readonly params: GPUBuffer;
  /** [sequence slots] u32: gets the token. */
  readonly lastTokens: BufferRange;
  /** [.., ringRows] u32: the row that the batch names gets the token of output i in column i. */
  readonly ring: GPUBuffer;
  readonly ringRows: number;
  /** `sampleScratchBytes` bytes. */
  readonly scratch: GPUBuffer;
  /** `sampleBoardBytes` bytes, zeros; zeros again when the dispatches have run. */
  readonly board: GPUBuffer;
  /** One of `sampleVariants`, by name. */
  readonly variant?: string;
  readonly label?: string;
}

/** Bytes of scratch for so many output rows. */
export function sampleScratchBytes(vocab: number, maxOutputs: number): number {
  return sumsOffset(vocab, maxOutputs) + maxOutputs * SUM_WORDS * 4;
}

/** Bytes of the room in which tiles meet: of each row a winner a tile, and a count. */
export function sampleBoardBytes(vocab: number, maxOutputs: number): number {
  return maxOutputs * (2 * Math.ceil(vocab / TILE) + 1) * 4;
}

/** Where the sums of passes.wgsl begin, behind all rows' pairs. */
function sumsOffset(vocab: number, outputs: number): number {
  return roundUp(outputs * scratchPairs(vocab) * 8, BINDING_ALIGNMENT);
}

/** A row's pairs of words: what the filters found, then a winner a tile. */
export function scratchPairs(vocab: number): number {
  return 2 + Math.ceil(vocab / TILE);
}

/**
 * Chooses a token for every output row and writes it to `lastTokens` and `ring`. Ties go to the lower token. Filters apply in the order temperature, top-k, top-p, min-p;
 * the draw depends on the row's logits, its params and the new token's position, and on nothing else in the batch.
 * @throws RangeError for a vocabulary that is empty or too large, or a board that is too small
 */
export async function sample(gpu: GpuContext, spec: SampleSpec): Promise<readonly Dispatch[]> {
  const { logits, logitsStride, vocab, step, outputs, mode, params, lastTokens, ring, ringRows, board, label = "sample" } = spec;
  if (vocab < 1 || vocab > MAX_SAMPLED_VOCAB)
    throw new RangeError(`Cannot sample from ${vocab} tokens, expected 1 to ${MAX_SAMPLED_VOCAB}`);
  checkBoard("sample", board, sampleBoardBytes(vocab, outputs));
  const tiles = Math.ceil(vocab / TILE);
  const { batch, maxTokens } = step;
  const columns = { VOCAB: vocab, ROW_VECTORS: logitsStride / 4, TILES: tiles, MAX_TOKENS: maxTokens };
  const cost = { bytes: outputs * vocab * 4 };
  const grid = [tiles, outputs, 1] as const;
  const offset = sumsOffset(vocab, outputs);
  const scratch: BufferRange = { buffer: spec.scratch, offset: 0, size: offset };
  const sums: BufferRange = { buffer: spec.scratch, offset, size: outputs * SUM_WORDS * 4 };
  const passes =
    mode === "sample" && chooseVariant(gpu, `sample/${sizeClass(vocab)}`, sampleVariants(gpu), spec.variant).name === PASS_BY_PASS.name;
  const choosing = { ...columns, CLEARED_SUMS: 0, CHOOSES: true, RING_ROWS: ringRows };
  const chosen = { batch, board, latest: lastTokens, ring };
  if (mode === "greedy") {
    const argmax = await gpu.kernel("sample/tiles.wgsl", { ...choosing, DRAW: false }, label);
    return [argmax.dispatch({ logits, ...chosen }, grid, cost)];
  }
  const clearing = { SUM_WORDS, CLEARED_SUMS: passes ? PASSES * PASS_SUMS : 0 };
  const largest = await gpu.kernel("sample/tiles.wgsl", { ...columns, ...clearing, CHOOSES: false, DRAW: false }, `${label}.tiles`);
  const dispatches: Dispatch[] = [largest.dispatch({ logits, scratch, ...(passes && { sums }) }, grid, cost)];
  if (passes)
    for (let pass = 0; pass <= PASSES; pass++) {
      const kernel = await gpu.kernel("sample/passes.wgsl", { ...columns, SUM_WORDS, PASS: pass }, `${label}.pass ${pass}`);
      dispatches.push(kernel.dispatch({ logits, scratch, batch, params, sums }, pass === PASSES ? [1, outputs, 1] : grid));
    }
  else {
    const select = await gpu.kernel("sample/select.wgsl", columns, `${label}.select`);
    dispatches.push(select.dispatch({ logits, scratch, batch, params }, [outputs, 1, 1]));
  }
  const draw = await gpu.kernel("sample/tiles.wgsl", { ...choosing, DRAW: true, AHEAD: spec.ahead ?? 1 }, `${label}.draw`);
  dispatches.push(draw.dispatch({ logits, scratch, params, ...chosen }, grid, cost));
  return dispatches;
}
