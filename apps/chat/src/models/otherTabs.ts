/**
 * Several tabs of this page, each with a model of its own on the GPU. A lock that all of them share tells how many there are; where memory is short for one more, it can
 * ask the others to free theirs.
 */
const LOCK = "shoal-loaded";
const CHANNEL = "shoal-tabs";
const FREE = "free";
/** For the others to let go of their devices. */
const FREEING_MS = 5000;

export class OtherTabs {
  readonly #channel = new BroadcastChannel(CHANNEL);
  #leave: (() => void) | undefined;

  /** @param onAsked another tab wants the GPU for itself */
  constructor(onAsked: () => void) {
    this.#channel.addEventListener("message", ({ data }) => {
      if (data === FREE) onAsked();
    });
  }

  /** This tab holds a model from now on. */
  async enter(): Promise<void> {
    if (this.#leave) return;
    await new Promise<void>((entered) => {
      const left = new Promise<void>((leave) => (this.#leave = leave));
      navigator.locks
        .request(LOCK, { mode: "shared" }, () => {
          entered();
          return left;
        })
        .catch(() => entered());
    });
  }

  leave(): void {
    this.#leave?.();
    this.#leave = undefined;
  }

  /** Other tabs that hold one. */
  async count(): Promise<number> {
    const { held = [] } = await navigator.locks.query();
    return held.filter(({ name }) => name === LOCK).length - (this.#leave ? 1 : 0);
  }

  /** Resolves when they have, or when they take too long. */
  async free(): Promise<void> {
    this.leave();
    // A channel's messages have no target origin.
    // oxlint-disable-next-line unicorn/require-post-message-target-origin
    this.#channel.postMessage(FREE);
    const signal = AbortSignal.timeout(FREEING_MS);
    await navigator.locks.request(LOCK, { mode: "exclusive", signal }, () => {}).catch(() => {});
  }
}
