/**
 * The choice of a token on the CPU. Integers (random words, order, counts) are the GPU's own, bit for bit; exponentials and logarithms are f64, so that
 * a decision hangs on rounding where `margin` is tiny.
 */
import { MIN_TEMPERATURE, type SamplingParams } from "./params.ts";

const MINUS_INFINITY_KEY = 0x007fffff;
const WEIGHT_ONE = 2 ** 28;

export interface KeptTokens {
  /** Best first: logit downwards, token upwards. */
  readonly tokens: readonly number[];
  /** How far the last kept token was from being dropped, or the next from being kept, as a share of all weight; infinite without top-p. */
  readonly margin: number;
}

export interface Choice {
  readonly token: number;
  /** How far the choice was from another one: the lead of the winner's score, or the filter's margin if that is smaller. */
  readonly margin: number;
}

/** Philox4x32-10. */
export function philox(
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
): [number, number, number, number] {
  let [a, b, c, d] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const first = BigInt(a) * 0xd2511f53n;
    const second = BigInt(c) * 0xcd9e8d57n;
    const [high0, low0] = [Number(first >> 32n), Number(first & 0xffffffffn)];
    const [high1, low1] = [Number(second >> 32n), Number(second & 0xffffffffn)];
    [a, b, c, d] = [(high1 ^ b ^ k0) >>> 0, low1, (high0 ^ d ^ k1) >>> 0, low0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [a, b, c, d];
}

/** A key that sorts as f32 logits do; NaN counts as minus infinity, -0 as 0. */
export function orderKey(logit: number): number {
  const value = Number.isNaN(logit) ? Number.NEGATIVE_INFINITY : logit === 0 ? 0 : logit;
  const bits = new Uint32Array(Float32Array.of(value).buffer)[0] ?? 0;
  return (bits & 0x80000000 ? ~bits : bits | 0x80000000) >>> 0;
}

/** The first of the largest; 0 if there is none. */
export function argmaxReference(logits: ArrayLike<number>): number {
  let best = 0;
  for (let token = 1; token < logits.length; token++) if (orderKey(logits[token] ?? 0) > orderKey(logits[best] ?? 0)) best = token;
  return best;
}

/** The tokens that may be drawn. `logits` are f32 values; a row without finite logits keeps none. */
export function keptReference(logits: ArrayLike<number>, { temperature, topP, topK, minP }: SamplingParams): KeptTokens {
  const sorted = Array.from({ length: logits.length }, (_, token) => ({
    token,
    logit: logits[token] ?? 0,
    key: orderKey(logits[token] ?? 0),
  }))
    .filter(({ key }) => key > MINUS_INFINITY_KEY)
    .sort((a, b) => b.key - a.key || a.token - b.token);
  const largest = sorted[0]?.logit ?? 0;
  const logWeight = (logit: number): number => (logit - largest) / Math.fround(temperature);
  let kept = topK > 0 ? sorted.slice(0, topK) : sorted;
  let margin = Number.POSITIVE_INFINITY;
  if (topP < 1 && kept.length > 0) {
    const weights = kept.map(({ logit }) => Math.floor(Math.exp(logWeight(logit)) * WEIGHT_ONE));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const target = Math.max(1, Math.min(total, Math.ceil(Math.fround(topP) * total)));
    let before = 0;
    let count = 0;
    while (count < kept.length && before + (weights[count] ?? 0) < target) before += weights[count++] ?? 0;
    const reached = before + (weights[count] ?? 0);
    margin = Math.min(reached - target, count === 0 ? total : target - before) / total;
    kept = kept.slice(0, count + 1);
  }
  if (minP > 0) kept = kept.filter(({ logit }) => logWeight(logit) >= Math.log(Math.fround(minP)));
  return { tokens: kept.map(({ token }) => token), margin };
}

/** Gumbel noise from a random word. */
export function gumbelReference(word: number): number {
  return -Math.log(-Math.log1p(-Math.min((word + 0.5) / 2 ** 32, 1 - 2 ** -24)));
}

/** The token at `position`, as sample.wgsl chooses it. */
export function sampleReference(logits: ArrayLike<number>, params: SamplingParams, position: number): Choice {
  if (!(Math.fround(params.temperature) >= MIN_TEMPERATURE)) return { token: argmaxReference(logits), margin: Number.POSITIVE_INFINITY };
  const { tokens, margin } = keptReference(logits, params);
  const seed = [Number(BigInt.asUintN(32, params.seed)), Number(BigInt.asUintN(32, params.seed >> 32n))] as const;
  let token = 0;
  let best = Number.NEGATIVE_INFINITY;
  let second = Number.NEGATIVE_INFINITY;
  const largest = logits[tokens[0] ?? 0] ?? 0;
  for (const candidate of tokens) {
    const word = philox([Math.floor(candidate / 4), position, 0, 0], seed)[candidate % 4] ?? 0;
    const score = ((logits[candidate] ?? 0) - largest) / Math.fround(params.temperature) + gumbelReference(word);
    if (score > best) {
      second = best;
      best = score;
      token = candidate;
    } else second = Math.max(second, score);
  }
  return { token, margin: Math.min(margin, best - second) };
}
