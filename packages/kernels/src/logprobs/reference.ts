/** Log-probabilities on the CPU, in f64. */
import { orderKey } from "../sample/reference.ts";

const LOWEST = -9999;
const MINUS_INFINITY_KEY = 0x007fffff;

export interface RowLogprobs {
  readonly chosen: number;
  /** Likeliest first; the lower token first where they are equal. */
  readonly top: readonly { readonly token: number; readonly logprob: number }[];
}

export function logprobsReference(logits: ArrayLike<number>, chosen: number, count: number): RowLogprobs {
  const sorted = Array.from(logits, (logit, token) => ({ token, logit, key: orderKey(logit) }))
    .filter(({ key }) => key > MINUS_INFINITY_KEY)
    .sort((a, b) => b.key - a.key || a.token - b.token);
  const largest = sorted[0]?.logit ?? 0;
  const logSum = largest + Math.log(sorted.reduce((sum, { logit }) => sum + Math.exp(logit - largest), 0));
  const logprob = (logit: number): number => (Number.isFinite(logit) ? Math.max(logit - logSum, LOWEST) : LOWEST);
  return {
    chosen: logprob(logits[chosen] ?? Number.NaN),
    top: sorted.slice(0, count).map(({ token, logit }) => ({ token, logprob: logprob(logit) })),
  };
}
