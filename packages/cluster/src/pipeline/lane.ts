/** Calls of one stage of a pipeline, each begun when all that it must come after has been begun there. */
export interface Sent<T> {
  /** When the call has been made; never rejects. Whoever must come after it waits for this. */
  readonly sent: Promise<void>;
  readonly result: Promise<T>;
}

export class Lane {
  readonly #check: () => void;
  readonly #failed: (error: unknown) => void;
  /** The last call that gave KV blocks back: whoever is promised those comes after it. */
  #freeing: Promise<void> = Promise.resolve();
  readonly #running = new Set<Promise<unknown>>();

  /** @param check throws once the pipeline has failed @param failed is told of every failure */
  constructor(check: () => void, failed: (error: unknown) => void) {
    this.#check = check;
    this.#failed = failed;
  }

  /**
   * @param prepare gathers what the call needs, and gives the call, which is then made at once
   * @param frees whether it gives KV blocks back
   */
  send<T>(after: readonly Promise<unknown>[], prepare: () => Promise<() => Promise<T>>, frees = false): Sent<T> {
    const before = Promise.all([this.#freeing, ...after]);
    const started = before.then(prepare).then((call) => {
      this.#check();
      return { result: call() };
    });
    const sent = started.then(
      () => undefined,
      () => undefined,
    );
    if (frees) this.#freeing = sent;
    const result = started.then(({ result: running }) => running);
    this.#watch(result);
    return { sent, result };
  }

  /** When the last call so far that gives KV blocks back has been made. */
  get freed(): Promise<void> {
    return this.#freeing;
  }

  /** Makes a call now, of which whoever makes it knows that nothing has to come before it. @throws once the pipeline has failed */
  begin<T>(call: () => Promise<T>): Promise<T> {
    this.#check();
    const result = call();
    this.#watch(result);
    return result;
  }

  #watch(result: Promise<unknown>): void {
    this.#running.add(result);
    result.then(
      () => this.#running.delete(result),
      (error: unknown) => {
        this.#running.delete(result);
        this.#failed(error);
      },
    );
  }

  /** When nothing is under way. */
  async idle(): Promise<void> {
    while (this.#running.size > 0) await Promise.allSettled(this.#running);
  }
}
