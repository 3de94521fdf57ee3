/** Lines from a person or a pipe. On a terminal with editing and history, and out of its raw mode as soon as a line is there, so that Ctrl-C is a signal again. */
import process from "node:process";
import { createInterface } from "node:readline";
import { untilAborted } from "@shoal/engine";
import type { Terminal } from "../terminal.ts";

export type Line = { readonly kind: "line"; readonly text: string } | { readonly kind: "end" } | { readonly kind: "interrupt" };

export interface LineInput {
  next(prompt: string, signal: AbortSignal): Promise<Line>;
  close(): Promise<void>;
}

export function openLineInput(terminal: Terminal): LineInput {
  return terminal.inIsTerminal ? new TerminalLines(terminal) : new PipedLines(Deno.stdin.readable);
}

class TerminalLines implements LineInput {
  readonly #terminal: Terminal;
  #history: string[] = [];

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  next(prompt: string, signal: AbortSignal): Promise<Line> {
    const output = this.#terminal.outIsTerminal ? process.stdout : process.stderr;
    const reader = createInterface({ input: process.stdin, output, terminal: true, history: this.#history, historySize: 1000 });
    const read = new Promise<Line>((resolve) => {
      reader.on("history", (history) => (this.#history = [...history]));
      reader.on("SIGINT", () => resolve({ kind: "interrupt" }));
      reader.on("close", () => resolve({ kind: "end" }));
      reader.question(prompt, (text) => resolve({ kind: "line", text }));
    });
    return untilAborted(read, signal)
      .then((line) => {
        if (line.kind !== "line") this.#terminal.err("\n");
        return line;
      })
      .finally(() => reader.close());
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** Longest line: a pipe that never ends one must not fill the memory. */
const MAX_LINE_UNITS = 16 * 2 ** 20;

export class PipedLines implements LineInput {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #decoder = new TextDecoder();
  #text = "";
  #ended = false;

  constructor(source: ReadableStream<Uint8Array>) {
    this.#reader = source.getReader();
  }

  async next(_prompt: string, signal: AbortSignal): Promise<Line> {
    for (;;) {
      const end = this.#text.indexOf("\n");
      if (end >= 0) {
        const text = this.#text.slice(0, end).replace(/\r$/, "");
        this.#text = this.#text.slice(end + 1);
        return { kind: "line", text };
      }
      if (this.#ended || this.#text.length > MAX_LINE_UNITS) {
        const text = this.#text;
        this.#text = "";
        return text === "" ? { kind: "end" } : { kind: "line", text };
      }
      const { done, value } = await untilAborted(this.#reader.read(), signal);
      this.#ended = done;
      this.#text += value ? this.#decoder.decode(value, { stream: true }) : this.#decoder.decode();
    }
  }

  async close(): Promise<void> {
    await this.#reader.cancel().catch(() => {});
  }
}
