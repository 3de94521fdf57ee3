/** Work begins in the order in which it was asked for, though some must wait for something first. */
export class Turnstile {
  /** When the last has begun that still waits. */
  #last: Promise<void> | undefined;

  /**
   * @param work begins before `run` returns where nothing waits
   * @param ready what it waits for; if that fails, the work is not begun, and what comes after it goes on
   */
  run<T>(work: () => T | Promise<T>, ready?: () => Promise<void>): T | Promise<T> {
    if (!this.#last && !ready) return work();
    const before = this.#last;
    let begin: () => void = () => undefined;
    const begun = new Promise<void>((resolve) => (begin = resolve));
    this.#last = begun;
    const through = (): void => {
      if (this.#last === begun) this.#last = undefined;
      begin();
    };
    return (async () => {
      let working: T | Promise<T>;
      try {
        if (before) await before;
        if (ready) await ready();
        working = work();
      } finally {
        through();
      }
      return working;
    })();
  }
}
