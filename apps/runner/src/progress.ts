/**
 * How far loading is: a line that is drawn over itself on a terminal, a few plain lines elsewhere. Times are milliseconds; `now` can be replaced.
 */
import { formatBytes, formatDuration } from "./format.ts";
import type { Terminal } from "./terminal.ts";

const BAR_WIDTH = 24;
const REDRAW_MS = 80;
/** Between plain lines. */
const LINE_MS = 5000;

export class Progress {
  readonly #terminal: Terminal;
  readonly #title: string;
  readonly #now: () => number;
  readonly #begin: number;
  #drawnAt = Number.NEGATIVE_INFINITY;
  #width = 0;

  constructor(terminal: Terminal, title: string, now: () => number = () => performance.now()) {
    this.#terminal = terminal;
    this.#title = title;
    this.#now = now;
    this.#begin = now();
    if (!terminal.errIsTerminal) terminal.err(`${title}\n`);
  }

  update(done: number, total: number): void {
    const now = this.#now();
    const { errIsTerminal } = this.#terminal;
    const since = now - Math.max(this.#drawnAt, errIsTerminal ? this.#drawnAt : this.#begin);
    if (since < (errIsTerminal ? REDRAW_MS : LINE_MS)) return;
    this.#drawnAt = now;
    const elapsed = now - this.#begin;
    const bytesPerMs = done / Math.max(elapsed, 1);
    const left = bytesPerMs > 0 && elapsed > 500 ? `, ${formatDuration((total - done) / bytesPerMs)} left` : "";
    const numbers = `${formatBytes(done)} of ${formatBytes(total)}, ${formatBytes(bytesPerMs * 1000)}/s${left}`;
    if (errIsTerminal) this.#draw(`${this.#title} ${bar(done / Math.max(total, 1))} ${numbers}`);
    else this.#terminal.err(`${this.#title}: ${numbers}\n`);
  }

  /** Clears the line; `last` stays in its place. */
  end(last?: (elapsedMs: number) => string): void {
    this.#draw("");
    if (last) this.#terminal.err(`${last(this.#now() - this.#begin)}\n`);
  }

  #draw(text: string): void {
    if (!this.#terminal.errIsTerminal || (text === "" && this.#width === 0)) return;
    const shown = text.slice(0, Math.max(1, this.#terminal.columns() - 1));
    this.#terminal.err(`\r${shown}${" ".repeat(Math.max(0, this.#width - shown.length))}${shown === "" ? "\r" : ""}`);
    this.#width = shown.length;
  }
}

function bar(share: number): string {
  const full = Math.round(Math.min(1, Math.max(0, share)) * BAR_WIDTH);
  return `[${"#".repeat(full)}${".".repeat(BAR_WIDTH - full)}]`;
}
