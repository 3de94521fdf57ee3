/** A few pieces of memory, lent to work that runs at the same time, and no more of it than there are pieces. */

/** Of work that needs no piece. */
const MOST_RUNNING = 32;

export class SlicePool {
  readonly #bytes: number;
  readonly #free: (Uint8Array<ArrayBuffer> | undefined)[];
  readonly #running = new Set<Promise<void>>();
  #failure: { readonly error: unknown } | undefined;

  /** Memory is allocated when it is first lent. */
  constructor(count: number, bytes: number) {
    this.#bytes = bytes;
    this.#free = Array.from({ length: count }, () => undefined);
  }

  /**
   * Begins `work` as soon as a piece is free, and resolves then. What is larger than a piece gets memory of its own beside it; what is of 0 bytes takes none.
   * @throws what any earlier work threw; nothing more is begun
   */
  async start(bytes: number, work: (memory: Uint8Array<ArrayBuffer>) => Promise<void>): Promise<void> {
    const lends = bytes > 0;
    while (!this.#failure && (lends ? this.#free.length === 0 : this.#running.size >= MOST_RUNNING)) await Promise.race(this.#running);
    if (this.#failure) throw this.#failure.error;
    const piece = lends ? (this.#free.pop() ?? new Uint8Array(this.#bytes)) : undefined;
    const memory = bytes > (piece?.byteLength ?? 0) ? new Uint8Array(bytes) : (piece ?? new Uint8Array());
    const running = this.#run(piece, work(memory));
    this.#running.add(running);
    void running.then(() => this.#running.delete(running));
  }

  /** Waits for all that was begun. @throws the first failure */
  async settle(): Promise<void> {
    await Promise.all(this.#running);
    if (this.#failure) throw this.#failure.error;
  }

  async #run(piece: Uint8Array<ArrayBuffer> | undefined, work: Promise<void>): Promise<void> {
    try {
      await work;
    } catch (error) {
      this.#failure ??= { error };
    } finally {
      if (piece) this.#free.push(piece);
    }
  }
}
