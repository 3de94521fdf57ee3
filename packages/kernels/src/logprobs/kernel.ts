/** Log-probabilities of chosen tokens and of the likeliest ones (shaders/logits/logprobs.wgsl). */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import type { Step } from "../batch.ts";

/** Likeliest tokens that each row names: what OpenAI's API allows to ask for. */
export const TOP_LOGPROBS = 20;
/** Words of a row: the chosen token's, then TOP_LOGPROBS tokens, then theirs. */
export const LOGPROBS_WORDS = 1 + 2 * TOP_LOGPROBS;
/** In place of a token: there are no further ones. */
export const NO_TOKEN = 0xffffffff;

export interface LogprobsSpec {
  /** [outputs, logitsStride] f32 as the model gave them; the stride is a multiple of 4. */
  readonly logits: GPUBuffer;
  readonly logitsStride: number;
  readonly vocab: number;
  readonly step: Step;
  readonly outputs: number;
  /** [.., ringRows] u32, as `sample` leaves it. */
  readonly ring: GPUBuffer;
  readonly ringRows: number;
  /** [.., ringRows, LOGPROBS_WORDS] u32: the row that the batch names gets those of output i in column i. */
  readonly logprobs: GPUBuffer;
  readonly label?: string;
}

export async function logprobs(gpu: GpuContext, spec: LogprobsSpec): Promise<readonly Dispatch[]> {
  const { logits, logitsStride, vocab, step, outputs, ring, ringRows, label = "logprobs" } = spec;
  const constants = { VOCAB: vocab, ROW_VECTORS: logitsStride / 4, MAX_TOKENS: step.maxTokens, RING_ROWS: ringRows, TOP: TOP_LOGPROBS };
  const kernel = await gpu.kernel("logits/logprobs.wgsl", constants, label);
  const cost = { bytes: outputs * vocab * 4 * (2 + TOP_LOGPROBS) };
  return [kernel.dispatch({ logits, batch: step.batch, ring, logprobs: spec.logprobs }, [outputs, 1, 1], cost)];
}
