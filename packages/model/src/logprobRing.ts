/** Log-probabilities of the tokens that the last steps chose. */
import type { GpuContext } from "@shoal/gpu";
import { LOGPROBS_WORDS, NO_TOKEN, TOP_LOGPROBS } from "@shoal/kernels";
import type { ChosenLogprobs } from "./stage.ts";
import { StepRing } from "./stepRing.ts";

export function logprobRing(gpu: GpuContext, maxOutputs: number): StepRing {
  return new StepRing(gpu, "log-probabilities", maxOutputs, LOGPROBS_WORDS);
}

export async function readLogprobs(ring: StepRing, first: number, count: number): Promise<readonly (readonly ChosenLogprobs[])[]> {
  return (await ring.read(first, count)).map((words) => {
    const rows = words.length / LOGPROBS_WORDS;
    return Array.from({ length: rows }, (_, row) => decode(words.subarray(row * LOGPROBS_WORDS, (row + 1) * LOGPROBS_WORDS)));
  });
}

function decode(words: Uint32Array<ArrayBuffer>): ChosenLogprobs {
  const floats = new Float32Array(words.buffer, words.byteOffset, words.length);
  const ids = Array.from(words.subarray(1, 1 + TOP_LOGPROBS));
  const top = ids.map((id, rank) => ({ id, logprob: floats[1 + TOP_LOGPROBS + rank] ?? 0 }));
  return { logprob: floats[0] ?? 0, top: top.filter(({ id }) => id !== NO_TOKEN) };
}
