/** A few pieces of memory, lent to work that runs at the same time, and no more of it than there are pieces. */

/** Of work that needs no piece. */
const MOST_RUNNING = 32;

export class SlicePool<Piece> {
  readonly #make: () => Piece;
  readonly #free: (Piece | undefined)[];
  readonly #made: Piece[] = [];
  readonly #running = new Set<Promise<void>>();
  #failure: { readonly error: unknown } | undefined;

  /** @param make a piece, when it is first lent */
  constructor(count: number, make: () => Piece) {
    this.#make = make;
    this.#free = Array.from({ length: count }, () => undefined);
  }

  /** All that were made. */
  get pieces(): readonly Piece[] {
    return this.#made;
  }

  /** Begins `work` as soon as a piece is free, and resolves then. @throws what any earlier work threw; nothing more is begun */
  async lend(work: (piece: Piece) => Promise<void>): Promise<void> {
    await this.#until(() => this.#free.length > 0);
    const piece = this.#free.pop() ?? this.#new();
    this.#run(work(piece).finally(() => this.#free.push(piece)));
  }

  /** Likewise for work that needs none. */
  async begin(work: () => Promise<void>): Promise<void> {
    await this.#until(() => this.#running.size < MOST_RUNNING);
    this.#run(work());
  }

  /** Waits for all that was begun. @throws the first failure */
  async settle(): Promise<void> {
    await Promise.all(this.#running);
    if (this.#failure) throw this.#failure.error;
  }

  #new(): Piece {
    const piece = this.#make();
    this.#made.push(piece);
    return piece;
  }

  async #until(isReady: () => boolean): Promise<void> {
    while (!this.#failure && !isReady()) await Promise.race(this.#running);
    if (this.#failure) throw this.#failure.error;
  }

  #run(work: Promise<void>): void {
    const running = work.catch((error: unknown) => void (this.#failure ??= { error }));
    this.#running.add(running);
    void running.then(() => this.#running.delete(running));
  }
}
