/** Bias, penalties and masks on logits (shaders/logits/adjust.wgsl), and the counts that penalties need (shaders/logits/count.wgsl). */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import type { Step } from "../batch.ts";

/** Columns that one workgroup adjusts. */
const TILE = 1024;

/** In a word of the history: the token is in the prompt. Below it is how often it was generated. */
export const TOKEN_IN_PROMPT = 0x80000000;

/** Words of a row of masks: whether it masks, then a bit a token, lowest first. */
export function maskRowWords(vocab: number): number {
  return 1 + Math.ceil(vocab / 32);
}

export interface HistorySpec {
  readonly vocab: number;
  readonly step: Step;
  /** [sequence slots, SAMPLING_PARAM_WORDS], rows by `encodeSamplingParams`. */
  readonly params: GPUBuffer;
  /** [sequence slots, vocab] u32: TOKEN_IN_PROMPT, and how often the token was generated. */
  readonly history: GPUBuffer;
  readonly label?: string;
}

export interface AdjustLogitsSpec extends HistorySpec {
  /** [outputs, logitsStride] f32; the stride is a multiple of 4. */
  readonly logits: GPUBuffer;
  readonly logitsStride: number;
  /** As `logits`, another buffer: gets them as they are to be sampled from. */
  readonly adjusted: GPUBuffer;
  /** [sequence slots, vocab] f32 */
  readonly bias: GPUBuffer;
  /** [outputs, maskRowWords(vocab)] u32 */
  readonly masks: GPUBuffer;
  readonly outputs: number;
}

export async function adjustLogits(gpu: GpuContext, spec: AdjustLogitsSpec): Promise<readonly Dispatch[]> {
  const { logits, logitsStride, adjusted, vocab, step, params, history, bias, masks, outputs, label = "adjustLogits" } = spec;
  const constants = { VOCAB: vocab, ROW_VECTORS: logitsStride / 4, MASK_WORDS: maskRowWords(vocab) - 1, MAX_TOKENS: step.maxTokens };
  const kernel = await gpu.kernel("logits/adjust.wgsl", constants, label);
  const buffers = { logits, adjusted, batch: step.batch, params, history, bias, masks };
  return [kernel.dispatch(buffers, [Math.ceil(vocab / TILE), outputs, 1], { bytes: outputs * vocab * 16 })];
}

export interface CountTokensSpec extends HistorySpec {
  /** [.., ringRows] u32, as `sample` leaves it. */
  readonly ring: GPUBuffer;
  readonly ringRows: number;
}

/** After `sample`: the step's tokens were generated. */
export async function countTokens(gpu: GpuContext, spec: CountTokensSpec): Promise<readonly Dispatch[]> {
  const { vocab, step, params, history, ring, ringRows, label = "countTokens" } = spec;
  const kernel = await gpu.kernel("logits/count.wgsl", { VOCAB: vocab, MAX_TOKENS: step.maxTokens, RING_ROWS: ringRows }, label);
  return [kernel.dispatch({ batch: step.batch, params, ring, history }, [1, 1, 1])];
}
