/** How tokens are chosen: what a person asked for, what the model recommends, or greedy. */
import type { GenerationConfig } from "@shoal/checkpoint";
import type { SamplingParameters } from "@shoal/model";
import { EngineError } from "./errors.ts";

export const GREEDY: SamplingParameters = Object.freeze({ temperature: 0, topP: 1, topK: 0, minP: 0, seed: 0n });

/** Logits are seldom beyond some tens: more than this decides alone, and stays a number in f32 sums. */
const MOST_ADJUSTMENT = 1000;

/** Undefined where nobody said. */
export interface SamplingWish {
  readonly temperature?: number | undefined;
  readonly topP?: number | undefined;
  readonly topK?: number | undefined;
  readonly minP?: number | undefined;
  readonly seed: bigint;
}

/** A wish wins over `generation_config.json`, which counts only if it asks for sampling at all. */
export function samplingOf(wish: SamplingWish, recommended: GenerationConfig | null = null): SamplingParameters {
  const sampled = recommended?.doSample === true ? recommended : null;
  return {
    temperature: wish.temperature ?? sampled?.temperature ?? (sampled ? 1 : 0),
    topP: wish.topP ?? sampled?.topP ?? 1,
    topK: wish.topK ?? sampled?.topK ?? 0,
    minP: wish.minP ?? 0,
    seed: wish.seed,
  };
}

/** @throws EngineError */
export function checkSampling(sampling: SamplingParameters, vocabSize: number): void {
  const { temperature, topP, topK, minP, seed } = sampling;
  const refuse = (what: string, value: number | bigint, expected: string, field?: string): never => {
    throw new EngineError("bad-request", `Cannot sample: ${what} is ${value}, expected ${expected}`, {
      ...(field !== undefined && { field }),
    });
  };
  if (!(temperature >= 0 && temperature <= 100)) refuse("the temperature", temperature, "0 to 100");
  if (!(topP > 0 && topP <= 1)) refuse("top-p", topP, "more than 0 and at most 1");
  if (!(Number.isSafeInteger(topK) && topK >= 0)) refuse("top-k", topK, "an integer from 0 on");
  if (!(minP >= 0 && minP <= 1)) refuse("min-p", minP, "0 to 1");
  if (seed < 0n || seed >= 1n << 64n) refuse("the seed", seed, "an integer from 0 to 2^64 - 1");
  const { frequencyPenalty = 0, presencePenalty = 0, repetitionPenalty = 1, logitBias } = sampling;
  const bounded = (value: number): boolean => Math.abs(value) <= MOST_ADJUSTMENT;
  const range = `-${MOST_ADJUSTMENT} to ${MOST_ADJUSTMENT}`;
  if (!bounded(frequencyPenalty)) refuse("the frequency penalty", frequencyPenalty, range, "frequencyPenalty");
  if (!bounded(presencePenalty)) refuse("the presence penalty", presencePenalty, range, "presencePenalty");
  if (!(repetitionPenalty > 0 && bounded(repetitionPenalty)))
    refuse("the repetition penalty", repetitionPenalty, `more than 0 and at most ${MOST_ADJUSTMENT}`, "repetitionPenalty");
  for (const [id, bias] of logitBias ?? []) {
    if (!Number.isSafeInteger(id) || id < 0 || id >= vocabSize)
      refuse("a biased token", id, `an id from 0 to ${vocabSize - 1}`, "logitBias");
    if (!bounded(bias)) refuse(`the bias of token ${id}`, bias, range, "logitBias");
  }
}
