/** How fast bytes come: a mean over the last seconds. */
const WINDOW_MS = 3000;

export class Speed {
  #seen: { readonly at: number; readonly bytes: number }[] = [];

  /** @returns bytes a second */
  add(bytes: number, at: number = performance.now()): number {
    this.#seen.push({ at, bytes });
    while (this.#seen.length > 2 && at - (this.#seen[0]?.at ?? at) > WINDOW_MS) this.#seen.shift();
    const [first = { at, bytes }] = this.#seen;
    return at > first.at ? ((bytes - first.bytes) * 1000) / (at - first.at) : 0;
  }
}
