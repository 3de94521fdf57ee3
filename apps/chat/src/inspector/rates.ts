/** Speed over the last seconds, from counters that only grow. */
export interface Counters {
  readonly completionTokens: number;
  readonly steps: number;
}

export interface Rates {
  readonly tokensPerSecond: number;
  /** More than 1 where several answers run at once, or drafts were right. */
  readonly tokensPerStep: number;
}

const WINDOW_MS = 3000;

export class RateWindow {
  #seen: (Counters & { readonly at: number })[] = [];

  /** @returns null where nothing was written lately */
  add({ completionTokens, steps }: Counters, at: number = performance.now()): Rates | null {
    this.#seen.push({ completionTokens, steps, at });
    while (this.#seen.length > 2 && at - (this.#seen[0]?.at ?? at) > WINDOW_MS) this.#seen.shift();
    const [first] = this.#seen;
    if (!first || first.at === at) return null;
    // Another engine counts from 0 again.
    if (first.completionTokens > completionTokens) {
      this.#seen = [{ completionTokens, steps, at }];
      return null;
    }
    const tokens = completionTokens - first.completionTokens;
    if (tokens === 0) return null;
    return { tokensPerSecond: (tokens * 1000) / (at - first.at), tokensPerStep: tokens / Math.max(1, steps - first.steps) };
  }
}
