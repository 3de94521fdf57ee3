/** How long one connection may be silent. One that is neither broken nor alive never ends by itself: a phone that changed its network has such. */
export class Patience {
  /** Aborted by a TypeError, as a broken connection ends, when nothing was heard for so long; or with the caller's signal. */
  readonly signal: AbortSignal;
  readonly #silent = new AbortController();
  readonly #ms: number;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(ms: number, signal?: AbortSignal) {
    this.#ms = ms;
    this.signal = signal ? AbortSignal.any([signal, this.#silent.signal]) : this.#silent.signal;
    this.heard();
  }

  /** Begins anew. */
  heard(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#silent.abort(new TypeError(`nothing came for ${this.#ms / 1000} s`)), this.#ms);
  }

  /** What ended the connection: browsers need not pass on why a signal was aborted. */
  reasonFor(error: unknown): unknown {
    return this.#silent.signal.aborted ? this.#silent.signal.reason : error;
  }

  end(): void {
    clearTimeout(this.#timer);
  }
}
