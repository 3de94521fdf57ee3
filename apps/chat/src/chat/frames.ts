/** Calls together into one a frame; a page that is not seen has no frames, and is updated now and then. */
export class Frames {
  readonly #work: () => void;
  #cancel: (() => void) | undefined;

  constructor(work: () => void) {
    this.#work = work;
  }

  ask(): void {
    if (this.#cancel) return;
    const run = (): void => {
      this.#cancel = undefined;
      this.#work();
    };
    if (document.visibilityState === "visible") {
      const frame = requestAnimationFrame(run);
      this.#cancel = () => cancelAnimationFrame(frame);
    } else {
      const timer = setTimeout(run, 250);
      this.#cancel = () => clearTimeout(timer);
    }
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }
}
