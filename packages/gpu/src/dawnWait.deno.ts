/**
 * How Dawn's Node-API addon waits in Deno (seen with Deno 2.9.6 and `webgpu` 0.6.2), and what is done about it.
 *
 * The addon polls by calling `globalThis.setImmediate` from every immediate, tens of thousands of times a second while anything is pending, at full CPU: on a software adapter it takes the processor
 * from the very work that it waits for (and under `deno test` the event loop copies a list that grows with them, until waits of milliseconds take minutes). A timer between polls is a millisecond at least, which is
 * as long as many a step.
 *
 * So where the adapter is software the pause before the next poll grows with the wait: a sixth of what it has taken until now, asleep in this thread while that is less than a millisecond, by a timer from then on.
 * Nothing else runs in the thread during such a sleep, which is why none is longer. A GPU computes while the thread polls, and is given the next steps by it meanwhile: there it never sleeps, polls freely for the
 * first milliseconds of a wait, and by a timer from then on.
 *
 * `wait` keeps the loop turning, which otherwise slept on although the GPU was done.
 */

/** Part of a wait that may pass before anybody looks whether it is over. */
const PAUSE_SHARE = 1 / 6;
/** A shorter pause is none: going to sleep takes as long. */
const LEAST_SLEEP_MS = 0.05;
const INTERVAL_MS = 1;
/** After so many milliseconds without a poll a new wait has begun. */
const GAP_MS = 4;
/** Polls in a row before timers take over, where the thread does not sleep: about 2 ms of them. */
const BURST = 100;

/** Of one thread. */
export class DawnWaits {
  #begun = 0;
  #polled = 0;
  #polls = 0;
  readonly #adapters = { software: false, gpu: false };

  /** This thread has a device on such an adapter. */
  serves({ isSoftware }: { readonly isSoftware: boolean }): void {
    this.#adapters[isSoftware ? "software" : "gpu"] = true;
  }

  /** Replaces `globalThis.setImmediate` of this thread; to be called once, before the addon is loaded. */
  pace(): void {
    const immediate = globalThis.setImmediate;
    const sleeper = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
    const paced = <Arguments extends unknown[]>(callback: (...args: Arguments) => void, ...args: Arguments): unknown => {
      const now = performance.now();
      if (now - this.#polled > GAP_MS) {
        this.#begun = now;
        this.#polls = 0;
      }
      this.#polled = now;
      this.#polls++;
      const { software, gpu } = this.#adapters;
      if (gpu || !software) return this.#polls <= BURST ? immediate(callback, ...args) : setTimeout(callback, INTERVAL_MS, ...args);
      const pauseMs = (now - this.#begun) * PAUSE_SHARE;
      if (pauseMs >= INTERVAL_MS) return setTimeout(callback, INTERVAL_MS, ...args);
      // Nobody wakes it: it is a sleep.
      if (pauseMs >= LEAST_SLEEP_MS) Atomics.wait(sleeper, 0, 0, pauseMs);
      return immediate(callback, ...args);
    };
    Object.defineProperty(globalThis, "setImmediate", { value: paced, configurable: true, writable: true });
  }

  readonly wait = async <T>(promise: Promise<T>): Promise<T> => {
    this.#begun = performance.now();
    const timer = setInterval(() => {}, INTERVAL_MS);
    try {
      return await promise;
    } finally {
      clearInterval(timer);
      this.#begun = performance.now();
    }
  };
}
