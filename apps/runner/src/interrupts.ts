/**
 * Ctrl-C. It first stops what may be stopped by itself (an answer in a chat), then the whole command by its signal; and if that does not end soon, or at the next
 * Ctrl-C, the process.
 */
import { untilAborted } from "@shoal/engine";

/** A command that was asked to stop has this long; waiting for a busy device is not worth more. */
const GRACE_MS = 700;

export class Interrupts {
  readonly #exit: () => void;
  readonly #whole = new AbortController();
  #part: AbortController | undefined;

  /** @param exit ends the process at once */
  constructor(exit: () => void) {
    this.#exit = exit;
  }

  /** Aborted when the command is to end. */
  get signal(): AbortSignal {
    return this.#whole.signal;
  }

  interrupt(): void {
    if (this.#part && !this.#part.signal.aborted) this.#part.abort();
    else if (this.#whole.signal.aborted) this.#exit();
    else {
      this.#whole.abort();
      setTimeout(this.#exit, GRACE_MS);
    }
  }

  /** While `work` runs, the first Ctrl-C stops only it. */
  async stoppable<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const part = new AbortController();
    this.#part = part;
    try {
      const signal = AbortSignal.any([part.signal, this.#whole.signal]);
      return await untilAborted(work(signal), this.#whole.signal);
    } finally {
      this.#part = undefined;
    }
  }
}
