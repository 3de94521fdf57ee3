/** How a sequence's next token is chosen, and its row of the buffer that the sampling kernels read (shaders/lib/sampling.wgsl). */

export interface SamplingParams {
  /** Divides the logits; below 1e-6 the likeliest token is taken and all else ignored. */
  readonly temperature: number;
  /** Keeps the fewest tokens whose probabilities reach this share; 1 keeps all. */
  readonly topP: number;
  /** Keeps so many tokens; 0 keeps all. */
  readonly topK: number;
  /** Drops tokens less likely than this share of the likeliest; 0 keeps all. */
  readonly minP: number;
  /** The low 64 bits count. */
  readonly seed: bigint;
}

/** What is done to the logits before anything else (shaders/logits/adjust.wgsl). */
export interface LogitAdjustments {
  /** Divides the positive and multiplies the negative logits of tokens that the prompt or the answer has; 1 changes nothing. */
  readonly repetitionPenalty?: number;
  /** Subtracted from a token's logit for each time that it was generated. */
  readonly frequencyPenalty?: number;
  /** Subtracted once from the logits of tokens that were generated. */
  readonly presencePenalty?: number;
  /** Added to the logits of these tokens. */
  readonly logitBias?: ReadonlyMap<number, number>;
}

/** Words of a row, one a sequence slot. */
export const SAMPLING_PARAM_WORDS = 16;

/** Below it a row is greedy. */
export const MIN_TEMPERATURE = Math.fround(1e-6);

export const GREEDY: SamplingParams = { temperature: 0, topP: 1, topK: 0, minP: 0, seed: 0n };

/** Whether any logit changes. */
export function adjustsLogits(adjustments: LogitAdjustments): boolean {
  return penalizes(adjustments) || (adjustments.logitBias?.size ?? 0) > 0;
}

/** Whether logits depend on which tokens came before. */
export function penalizes({ repetitionPenalty = 1, frequencyPenalty = 0, presencePenalty = 0 }: LogitAdjustments): boolean {
  return repetitionPenalty !== 1 || frequencyPenalty !== 0 || presencePenalty !== 0;
}

/** The word of a row that has what positions in batches are counted from. */
export const FIRST_POSITION_WORD = 6;

/**
 * One slot's row.
 * @param firstPosition what positions in batches are counted from: draws are told apart by positions of the whole sequence
 * @throws RangeError for values that mean nothing.
 */
export function encodeSamplingParams(parameters: SamplingParams & LogitAdjustments, firstPosition = 0): Uint32Array<ArrayBuffer> {
  const { temperature, topP, topK, minP, seed } = parameters;
  const { repetitionPenalty = 1, frequencyPenalty = 0, presencePenalty = 0 } = parameters;
  const check = (name: string, value: number, holds: boolean, expected: string): void => {
    if (!holds) throw new RangeError(`Cannot sample with ${name} ${value}, expected ${expected}`);
  };
  check("temperature", temperature, Number.isFinite(temperature) && temperature >= 0, "a number from 0");
  check("topP", topP, topP >= 0 && topP <= 1, "a number from 0 to 1");
  check("minP", minP, minP >= 0 && minP <= 1, "a number from 0 to 1");
  check("topK", topK, Number.isInteger(topK) && topK >= 0 && topK <= 0xffffffff, "an integer from 0");
  check("repetitionPenalty", repetitionPenalty, Number.isFinite(repetitionPenalty) && repetitionPenalty > 0, "a number above 0");
  check("frequencyPenalty", frequencyPenalty, Number.isFinite(frequencyPenalty), "a number");
  check("presencePenalty", presencePenalty, Number.isFinite(presencePenalty), "a number");
  const words = new Uint32Array(SAMPLING_PARAM_WORDS);
  const floats = new Float32Array(words.buffer);
  floats[0] = temperature;
  floats[1] = topP;
  words[2] = topK;
  floats[3] = minP;
  words[4] = Number(BigInt.asUintN(32, seed));
  words[5] = Number(BigInt.asUintN(32, seed >> 32n));
  words[FIRST_POSITION_WORD] = firstPosition;
  floats.set([repetitionPenalty, frequencyPenalty, presencePenalty], 8);
  words[11] = Number(adjustsLogits(parameters));
  return words;
}
