/** One prompt, one streamed answer; and a word on what is going on while there is nothing to see. */
import type { ChatSession, ChatTurn, SendOptions } from "@shoal/engine";
import type { Terminal } from "../terminal.ts";

/** Silence this long needs a reason: on a terminal, and in a log. */
const QUIET_TERMINAL_MS = 800;
const QUIET_LOG_MS = 5000;

export interface AskOptions extends Omit<SendOptions, "onText" | "onPrefill"> {
  /** Comes before the answer's first character. */
  readonly before?: string;
  /** Keep the text to yourself: the caller prints the turn. */
  readonly quiet?: boolean;
}

export async function ask(
  terminal: Terminal,
  chat: ChatSession,
  prompt: string,
  { before = "", quiet = false, ...options }: AskOptions,
): Promise<ChatTurn> {
  const notice = new Notice(terminal);
  let begun = false;
  const begin = (): void => {
    if (begun) return;
    begun = true;
    notice.end();
    if (!quiet) terminal.out(before);
  };
  try {
    const turn = await chat.send(prompt, {
      ...options,
      onText: (piece) => {
        begin();
        if (!quiet) terminal.out(piece);
      },
      onPrefill: (done, total) => notice.update(`Computing the prompt: ${done} of ${total} tokens`),
    });
    begin();
    return turn;
  } finally {
    notice.end();
  }
}

class Notice {
  readonly #terminal: Terminal;
  readonly #timer: ReturnType<typeof setTimeout>;
  #text = "Computing the prompt; the first time on a device its shaders are compiled, which takes longer";
  #shown = false;
  #ended = false;
  #width = 0;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
    this.#timer = setTimeout(() => this.#show(), terminal.errIsTerminal ? QUIET_TERMINAL_MS : QUIET_LOG_MS);
  }

  update(text: string): void {
    this.#text = text;
    if (this.#shown && !this.#ended && this.#terminal.errIsTerminal) this.#draw(text);
  }

  /** Clears it from a terminal. */
  end(): void {
    clearTimeout(this.#timer);
    if (!this.#ended && this.#width > 0) this.#draw("");
    this.#ended = true;
  }

  #show(): void {
    this.#shown = true;
    if (this.#terminal.errIsTerminal) this.#draw(this.#text);
    else this.#terminal.err(`${this.#text}\n`);
  }

  #draw(text: string): void {
    const shown = text.slice(0, Math.max(1, this.#terminal.columns() - 1));
    this.#terminal.err(`\r${shown.padEnd(this.#width)}${shown === "" ? "\r" : ""}`);
    this.#width = shown.length;
  }
}
