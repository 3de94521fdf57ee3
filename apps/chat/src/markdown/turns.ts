/**
 * Who may change the page next. What an answer adds to it is cut into parts, and between two frames only so many of their elements are made, however much has come at
 * once: the rest waits for its turn. So no task takes longer because an answer is longer, or was late.
 */
import { Frames } from "../chat/frames.ts";

/** Elements and texts between two frames: some milliseconds of making, laying out and painting them. */
export const A_FRAME = 400;

interface Waiting {
  readonly size: number;
  readonly go: () => void;
}

export class Turns {
  readonly #frames: Pick<Frames, "ask">;
  readonly #waiting = new Set<Waiting>();
  #left = A_FRAME;

  /** @param frames calls back with the next frame, once for each time it is asked */
  constructor(frames: (work: () => void) => Pick<Frames, "ask"> = (work) => new Frames(work)) {
    // The frame itself lays out and paints what the last turns made.
    this.#frames = frames(() => void setTimeout(() => this.#begin(), 0));
  }

  /** Whether a part may be shown at once. One that is larger than a frame's share has a frame to itself. */
  take(size: number): boolean {
    const may = this.#waiting.size === 0 && this.#fits(size);
    if (may) this.#spend(size);
    return may;
  }

  /** @returns gives the place in the line up */
  wait(size: number, go: () => void): () => void {
    const waiting = { size, go };
    this.#waiting.add(waiting);
    this.#frames.ask();
    return () => void this.#waiting.delete(waiting);
  }

  #fits(size: number): boolean {
    return size <= this.#left || this.#left === A_FRAME;
  }

  #spend(size: number): void {
    this.#left -= size;
    this.#frames.ask();
  }

  #begin(): void {
    this.#left = A_FRAME;
    for (const next of this.#waiting) {
      if (!this.#fits(next.size)) break;
      this.#waiting.delete(next);
      this.#spend(next.size);
      next.go();
    }
    if (this.#waiting.size > 0) this.#frames.ask();
  }
}
