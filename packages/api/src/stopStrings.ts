/**
 * Ends a text before the first of several strings. Text comes in pieces; what could be the beginning of such a string is held back until it is certain.
 */
export class StopStrings {
  readonly #stops: readonly string[];
  readonly #longest: number;
  #held = "";
  #stopped = false;

  constructor(stops: readonly string[]) {
    this.#stops = stops;
    this.#longest = Math.max(0, ...stops.map((stop) => stop.length));
  }

  /** UTF-16 units that were pushed and not given out: held back, or from the stop string on. */
  get heldLength(): number {
    return this.#held.length;
  }

  /** Whether one was found: nothing comes out any more. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /** The text that is certain now. */
  push(text: string): string {
    this.#held += text;
    if (this.#stopped) return "";
    const found = this.#first();
    if (found >= 0) {
      this.#stopped = true;
      return this.#release(found);
    }
    return this.#release(this.#held.length - this.#openLength());
  }

  /** What was held back, when the text ends without one. */
  finish(): string {
    return this.#stopped ? "" : this.#release(this.#held.length);
  }

  #release(length: number): string {
    const text = this.#held.slice(0, length);
    this.#held = this.#held.slice(length);
    return text;
  }

  #first(): number {
    const places = this.#stops.map((stop) => this.#held.indexOf(stop)).filter((place) => place >= 0);
    return places.length === 0 ? -1 : Math.min(...places);
  }

  /** Of the end of the text: the longest part that begins a stop string. */
  #openLength(): number {
    for (let length = Math.min(this.#longest - 1, this.#held.length); length > 0; length--) {
      const end = this.#held.slice(-length);
      if (this.#stops.some((stop) => stop.length > length && stop.startsWith(end))) return length;
    }
    return 0;
  }
}
