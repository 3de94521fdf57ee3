/** Two ways timed next to each other again and again, on a machine that others use too: what the pairs tell of how much faster one is, and how sure that is. Pure. */

export interface Pair {
  /** Of the way that is compared with, in any unit. */
  readonly before: number;
  readonly after: number;
}

export interface Speedup {
  /** The median of the pairs' `before / after`: 1.1 is 1.1 times as fast. */
  readonly median: number;
  /** That the true median lies between them is at least 95 % likely, whatever the ratios' distribution; -Infinity to Infinity for fewer than 6 pairs, which cannot tell. */
  readonly low: number;
  readonly high: number;
  readonly pairs: number;
}

const DOUBT = 0.05;

/**
 * The interval is the sign test turned round: of n ratios that are each as likely above the true median as below, the k-th from either end encloses it unless fewer than k lie on one side,
 * so k is the largest for which that happens less often than the doubt allows. (Conover, Practical Nonparametric Statistics, section 3.2.)
 */
export function speedup(pairs: readonly Pair[]): Speedup {
  const ratios = pairs.map(({ before, after }) => before / after).toSorted((a, b) => a - b);
  const count = ratios.length;
  const outside = ranksOutside(count);
  return {
    median: median(ratios),
    low: ratios[outside - 1] ?? Number.NEGATIVE_INFINITY,
    high: outside > 0 ? (ratios[count - outside] ?? Number.POSITIVE_INFINITY) : Number.POSITIVE_INFINITY,
    pairs: count,
  };
}

/** NaN of none. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  return ((sorted[Math.floor(middle)] ?? Number.NaN) + (sorted[Math.ceil(middle)] ?? Number.NaN)) / 2;
}

/** The largest k for which fewer than k of `count` tosses of a coin are heads, or fewer than k tails, with no more than the doubt allowed; 0 for none. */
function ranksOutside(count: number): number {
  // Of so many heads; as a logarithm, for 2 ** -count may be nothing.
  let log = count * Math.log(0.5);
  let fewer = Math.exp(log);
  let k = 0;
  while (k < count && 2 * fewer <= DOUBT) {
    k++;
    log += Math.log((count - k + 1) / k);
    fewer += Math.exp(log);
  }
  return k;
}

/** Who goes when in the given turn: everybody comes first as often as last, and before each other as often as after, over 2 n turns. */
export function order<T>(all: readonly T[], turn: number): readonly T[] {
  const first = turn % Math.max(1, all.length);
  const turned = [...all.slice(first), ...all.slice(0, first)];
  return Math.floor(turn / Math.max(1, all.length)) % 2 === 0 ? turned : turned.toReversed();
}
