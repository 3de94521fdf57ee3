/** Feeds a growing text to the parser, never faster than the page can show it: what comes meanwhile goes together. */
import type { IncrementalMarkdown } from "./incremental.ts";
import type { Block } from "./nodes.ts";

/** Between two states of the text: about as often as an eye follows. */
const MIN_PAUSE_MS = 50;
/** Showing a state takes at most this share of the main thread's time. */
const SHARE = 1 / 8;

export class Feeder {
  /** How long showing the last state took, as the one who shows it finds. */
  costMs = 0;
  readonly #markdown: IncrementalMarkdown;
  readonly #show: (blocks: readonly Block[] | null) => void;
  #wanted: { readonly text: string; readonly finished: boolean } | undefined;
  #isRunning = false;
  #isClosed = false;
  #isHopeless = false;
  #wake: (() => void) | undefined;

  /** @param show null: the text cannot be parsed, and is to be shown as it is */
  constructor(markdown: IncrementalMarkdown, show: (blocks: readonly Block[] | null) => void) {
    this.#markdown = markdown;
    this.#show = show;
  }

  feed(text: string, finished: boolean): void {
    this.#wanted = { text, finished };
    // The end need not wait.
    if (finished) this.#wake?.();
    if (!this.#isRunning) void this.#run();
  }

  close(): void {
    this.#isClosed = true;
    this.#wake?.();
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    while (this.#wanted && !this.#isClosed) {
      const { text, finished } = this.#wanted;
      this.#wanted = undefined;
      // A text that has once taken too long is tried again only as a whole.
      if (this.#isHopeless && !finished) continue;
      const blocks = await this.#markdown.update(text, finished).catch(() => null);
      if (this.#isClosed) break;
      this.#isHopeless = blocks === null;
      this.#show(blocks);
      if (!finished) await this.#pause(Math.max(MIN_PAUSE_MS, this.costMs / SHARE));
    }
    this.#isRunning = false;
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
