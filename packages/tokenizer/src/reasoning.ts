/**
 * Answers that begin with reasoning: `<think>...</think>` and then the answer proper. Text comes in pieces; a tag that lies across pieces is found, and nothing but
 * the tags themselves is left out.
 */
const OPEN = "<think>";
const CLOSE = "</think>";

export interface AnswerText {
  readonly kind: "reasoning" | "content";
  readonly text: string;
}

/**
 * Where an answer begins. `open`: inside reasoning, because the prompt ended with the tag. `detect`: reasoning if a tag is the first thing but white space.
 * `none`: all is content.
 */
export type ReasoningStart = "open" | "detect" | "none";

export class ReasoningSplitter {
  #state: "detect" | "reasoning" | "content";
  #held = "";

  constructor(start: ReasoningStart) {
    this.#state = start === "open" ? "reasoning" : start === "detect" ? "detect" : "content";
  }

  /** What the next text is, as far as it is known. */
  get kind(): AnswerText["kind"] {
    return this.#state === "reasoning" ? "reasoning" : "content";
  }

  /** UTF-16 units that were pushed and not given out yet. */
  get heldLength(): number {
    return this.#held.length;
  }

  /** The pieces that are certain now, in their order; none is empty. */
  push(text: string): readonly AnswerText[] {
    this.#held += text;
    const pieces: AnswerText[] = [];
    if (this.#state === "detect") this.#detect(pieces);
    if (this.#state === "reasoning") this.#reason(pieces);
    if (this.#state === "content") this.#give("content", this.#held.length, pieces);
    return pieces;
  }

  /** What was held back, when the answer ends. */
  finish(): readonly AnswerText[] {
    const pieces: AnswerText[] = [];
    this.#give(this.kind, this.#held.length, pieces);
    return pieces;
  }

  #detect(pieces: AnswerText[]): void {
    const space = this.#held.length - this.#held.trimStart().length;
    const start = this.#held.slice(space);
    if (start.startsWith(OPEN)) {
      this.#give("reasoning", space, pieces);
      this.#held = this.#held.slice(OPEN.length);
      this.#state = "reasoning";
    } else if (!OPEN.startsWith(start)) this.#state = "content";
  }

  #reason(pieces: AnswerText[]): void {
    const end = this.#held.indexOf(CLOSE);
    if (end >= 0) {
      this.#give("reasoning", end, pieces);
      this.#held = this.#held.slice(CLOSE.length);
      this.#state = "content";
      return;
    }
    let open = Math.min(CLOSE.length - 1, this.#held.length);
    while (open > 0 && !CLOSE.startsWith(this.#held.slice(-open))) open--;
    this.#give("reasoning", this.#held.length - open, pieces);
  }

  #give(kind: AnswerText["kind"], length: number, pieces: AnswerText[]): void {
    if (length > 0) pieces.push({ kind, text: this.#held.slice(0, length) });
    this.#held = this.#held.slice(length);
  }
}

/** Whether a rendered prompt leaves the model inside reasoning. */
export function opensReasoning(prompt: string): boolean {
  return prompt.trimEnd().endsWith(OPEN);
}
