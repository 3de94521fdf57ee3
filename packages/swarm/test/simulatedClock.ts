/** A clock that a test moves. Between two moments whatever promises follow from the first are settled. */
import type { Clock } from "../src/clock.ts";

interface Call {
  readonly at: number;
  readonly order: number;
  readonly call: () => void;
}

export class SimulatedClock implements Clock {
  #now = 0;
  #order = 0;
  #calls: Call[] = [];

  now(): number {
    return this.#now;
  }

  after(ms: number, call: () => void): () => void {
    const entry = { at: this.#now + Math.max(0, ms), order: this.#order++, call };
    this.#calls.push(entry);
    return () => {
      this.#calls = this.#calls.filter((one) => one !== entry);
    };
  }

  get pending(): number {
    return this.#calls.length;
  }

  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    await settle();
    for (;;) {
      const next = this.#calls.reduce<Call | undefined>(
        (first, call) => (!first || call.at < first.at || (call.at === first.at && call.order < first.order) ? call : first),
        undefined,
      );
      if (!next || next.at > end) break;
      this.#calls = this.#calls.filter((call) => call !== next);
      this.#now = Math.max(this.#now, next.at);
      next.call();
      await settle();
    }
    this.#now = end;
  }

  /** Moves on until the promise is settled. */
  async until<T>(promise: Promise<T>, mostMs: number): Promise<T> {
    const state = { settled: false };
    const done = (): void => void (state.settled = true);
    promise.then(done, done);
    const end = this.#now + mostMs;
    while (!state.settled && this.#now < end) await this.advance(10);
    if (!state.settled) throw new Error(`Nothing came of it within ${mostMs} simulated ms`);
    return promise;
  }
}

/** Everything that follows without time passing, signatures that another thread computes included. */
async function settle(): Promise<void> {
  await new Promise<void>((resolve) => setImmediate(resolve));
}
