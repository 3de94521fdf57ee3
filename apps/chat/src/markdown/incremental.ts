/**
 * A text that grows, parsed as it grows: only from the last block on, since what comes can change no block before. Definitions of links further down are the exception;
 * they take effect when the text is finished and parsed once more as a whole.
 */
import type { TextWorker } from "./textWorker.ts";
import type { Block, References } from "./nodes.ts";
import { isSame } from "./same.ts";

export class IncrementalMarkdown {
  readonly #worker: Pick<TextWorker, "parse">;
  #text = "";
  #settled: readonly Block[] = [];
  #settledTo = 0;
  #references: References = {};
  #shown: readonly Block[] = [];

  constructor(worker: Pick<TextWorker, "parse">) {
    this.#worker = worker;
  }

  /** The blocks of `text`; those that are as they were before are the same objects. One call at a time. */
  async update(text: string, finished: boolean): Promise<readonly Block[]> {
    if (finished || !text.startsWith(this.#text)) this.#restart();
    this.#text = text;
    const from = this.#settledTo;
    const { blocks, references } = await this.#worker.parse({
      text: text.slice(from),
      references: this.#references,
      unfinished: !finished,
    });
    const moved = blocks.map((block) => ({ ...block, start: block.start + from }));
    this.#shown = [...this.#settled, ...moved].map((block, index) => this.#known(block, index));
    const last = moved.findLast(({ begun }) => begun)?.start ?? from;
    this.#settled = this.#shown.filter(({ start }) => start < last);
    this.#settledTo = last;
    this.#references = references;
    return this.#shown;
  }

  #restart(): void {
    this.#settled = [];
    this.#settledTo = 0;
    this.#references = {};
  }

  /** What links mean may have changed though the text has not. */
  #known(block: Block, index: number): Block {
    const before = this.#shown[index];
    const same = before === block || (before?.start === block.start && before.source === block.source && isSame(before.node, block.node));
    return same ? before : block;
  }
}
