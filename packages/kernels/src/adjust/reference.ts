/** The adjustments on the CPU, in f32 steps as the GPU's. */
import type { LogitAdjustments } from "../sample/params.ts";

export interface AdjustedRow {
  readonly logits: ArrayLike<number>;
  readonly adjustments: LogitAdjustments;
  readonly prompt: readonly number[];
  readonly generated: readonly number[];
  /** Whether a token is allowed; undefined allows all. */
  readonly allows?: (token: number) => boolean;
}

export function adjustReference({ logits, adjustments, prompt, generated, allows }: AdjustedRow): Float64Array {
  const { repetitionPenalty = 1, frequencyPenalty = 0, presencePenalty = 0, logitBias } = adjustments;
  const inPrompt = new Set(prompt);
  const counts = new Map<number, number>();
  for (const token of generated) counts.set(token, (counts.get(token) ?? 0) + 1);
  return Float64Array.from({ length: logits.length }, (_, token) => {
    if (allows && !allows(token)) return Number.NEGATIVE_INFINITY;
    const raw = logits[token] ?? 0;
    if (!Number.isFinite(raw)) return raw;
    let logit = Math.fround(raw + Math.fround(logitBias?.get(token) ?? 0));
    const times = counts.get(token) ?? 0;
    if (times > 0 || inPrompt.has(token)) logit = logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty;
    return times > 0 ? logit - times * frequencyPenalty - presencePenalty : logit;
  });
}
