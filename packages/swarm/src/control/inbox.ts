/** What has arrived and waits to be taken: bounded, and ends with an error. */
import { deferred } from "../deferred.ts";
import { SwarmError } from "../errors.ts";

export class Inbox<T> {
  readonly ended: Promise<Error>;
  readonly #most: number;
  readonly #items: T[] = [];
  readonly #takers: { readonly resolve: (item: T) => void; readonly reject: (error: Error) => void }[] = [];
  readonly #end: (error: Error) => void;
  #error: Error | undefined;

  constructor(most: number) {
    this.#most = most;
    const { promise, resolve } = deferred<Error>();
    this.ended = promise;
    this.#end = resolve;
  }

  put(item: T): void {
    if (this.#error) return;
    const taker = this.#takers.shift();
    if (taker) taker.resolve(item);
    else if (this.#items.length < this.#most) this.#items.push(item);
    else this.end(new SwarmError("overloaded", `More than ${this.#most} messages came before anybody took them`));
  }

  /** What came before the end is still given out. */
  take(): Promise<T> {
    const [item] = this.#items.splice(0, 1);
    if (item !== undefined) return Promise.resolve(item);
    if (this.#error) return Promise.reject(this.#error);
    return new Promise((resolve, reject) => this.#takers.push({ resolve, reject }));
  }

  end(error: Error): void {
    if (this.#error) return;
    this.#error = error;
    for (const { reject } of this.#takers.splice(0)) reject(error);
    this.#end(error);
  }
}
