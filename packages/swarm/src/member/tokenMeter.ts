/** Tokens a second, of late. */
import type { Clock } from "../clock.ts";

/** What counts. */
const WINDOW_MS = 5000;
const BUCKET_MS = 500;

export class TokenMeter {
  readonly #clock: Clock;
  /** Tokens by when a bucket began. */
  readonly #buckets: { readonly at: number; tokens: number }[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  count(tokens: number): void {
    if (tokens === 0) return;
    const now = this.#clock.now();
    const last = this.#buckets.at(-1);
    if (last && now - last.at < BUCKET_MS) last.tokens += tokens;
    else this.#buckets.push({ at: now, tokens });
    this.#forget(now);
  }

  get perSecond(): number {
    this.#forget(this.#clock.now());
    return (this.#buckets.reduce((sum, { tokens }) => sum + tokens, 0) * 1000) / WINDOW_MS;
  }

  #forget(now: number): void {
    while ((this.#buckets[0]?.at ?? now) < now - WINDOW_MS) this.#buckets.shift();
  }
}
