/** Speed over the last seconds, from counters that only grow. */
export interface Counters {
  readonly completionTokens: number;
  readonly steps: number;
  /** Answers that are being written, or wait. */
  readonly answers: number;
}

export interface Rates {
  readonly tokensPerSecond: number;
  /** Since nothing was written: steps run ahead of their tokens. More than 1 where several answers run at once, or drafts were right. */
  readonly tokensPerStep: number;
}

const WINDOW_MS = 3000;

export class RateWindow {
  #seen: (Pick<Counters, "completionTokens"> & { readonly at: number })[] = [];
  #begin: Counters | undefined;
  #tokensPerStep = 1;

  /** @returns null where nothing was written lately */
  add(counters: Counters, at: number = performance.now()): Rates | null {
    const { completionTokens, steps } = counters;
    const begin = (this.#begin ??= counters);
    if (counters.answers === 0) this.#begin = counters;
    this.#seen.push({ completionTokens, at });
    while (this.#seen.length > 2 && at - (this.#seen[0]?.at ?? at) > WINDOW_MS) this.#seen.shift();
    const [first] = this.#seen;
    if (!first || first.at === at) return null;
    // Another engine counts from 0 again.
    if (first.completionTokens > completionTokens) {
      this.#seen = [{ completionTokens, at }];
      this.#begin = counters;
      return null;
    }
    const tokens = completionTokens - first.completionTokens;
    if (tokens === 0) return null;
    const written = completionTokens - begin.completionTokens;
    if (written > 0) this.#tokensPerStep = written / Math.max(1, steps - begin.steps);
    return { tokensPerSecond: (tokens * 1000) / (at - first.at), tokensPerStep: this.#tokensPerStep };
  }
}
