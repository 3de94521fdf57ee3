/**
 * From tokens to what a client sees: detokenized, reasoning apart from content, ended before a stop string. A token's log probability comes out with the first of
 * its text that does, so that neither is ahead of the other, and tokens of a stop string are left out with it.
 */
import type { GeneratedToken } from "@shoal/engine";
import {
  type AnswerText as Piece,
  IncrementalDetokenizer,
  ReasoningSplitter,
  type ReasoningStart,
  type TokenBytes,
} from "@shoal/tokenizer";
import { StopStrings } from "./stopStrings.ts";

export interface AnswerPart {
  readonly reasoning: string;
  readonly content: string;
  /** Tokens whose text begins in this part. */
  readonly tokens: readonly AnswerToken[];
}

export interface AnswerToken extends GeneratedToken {
  readonly kind: Piece["kind"];
}

export interface AnswerTextOptions {
  readonly tokenizer: TokenBytes;
  readonly reasoning: ReasoningStart;
  /** Looked for in the content, not in the reasoning. */
  readonly stops: readonly string[];
}

export class AnswerText {
  readonly #detokenizer: IncrementalDetokenizer;
  readonly #splitter: ReasoningSplitter;
  readonly #stops: StopStrings;
  /** UTF-16 units of raw text so far. */
  #length = 0;
  /** Tokens whose text has not come out, with the place where it begins. */
  #waiting: { readonly token: AnswerToken; readonly start: number }[] = [];
  #reasoningTokens = 0;

  constructor({ tokenizer, reasoning, stops }: AnswerTextOptions) {
    this.#detokenizer = new IncrementalDetokenizer(tokenizer, { skipSpecialTokens: true });
    this.#splitter = new ReasoningSplitter(reasoning);
    this.#stops = new StopStrings(stops);
  }

  /** A stop string was found: no more tokens are wanted. */
  get stopped(): boolean {
    return this.#stops.stopped;
  }

  /** Tokens pushed so far that belong to the reasoning. */
  get reasoningTokens(): number {
    return this.#reasoningTokens;
  }

  push(token: GeneratedToken): AnswerPart {
    const start = this.#length;
    const text = this.#detokenizer.push(token.id);
    const before = this.#splitter.kind;
    const part = this.#take(this.#splitter.push(text), text.length);
    // The tag that opens reasoning is part of it, and so is the one that closes it.
    const kind = before === "reasoning" || this.#splitter.kind === "reasoning" ? "reasoning" : "content";
    if (kind === "reasoning") this.#reasoningTokens++;
    this.#waiting.push({ token: { ...token, kind }, start });
    return { ...part, tokens: this.#release() };
  }

  /** What was held back, when the answer ends without a stop string. */
  finish(): AnswerPart {
    if (this.stopped) return { reasoning: "", content: "", tokens: [] };
    const text = this.#detokenizer.finish();
    const part = this.#take([...this.#splitter.push(text), ...this.#splitter.finish()], text.length);
    const content = part.content + this.#stops.finish();
    // A stop string may have been completed by the last character.
    const tokens = this.stopped ? this.#release() : this.#waiting.splice(0).map(({ token }) => token);
    return { reasoning: part.reasoning, content, tokens };
  }

  #take(pieces: readonly Piece[], length: number): Omit<AnswerPart, "tokens"> {
    this.#length += length;
    let reasoning = "";
    let content = "";
    for (const { kind, text } of pieces) {
      if (kind === "reasoning") reasoning += text;
      else content += this.#stops.push(text);
    }
    return { reasoning, content };
  }

  #release(): readonly AnswerToken[] {
    const out = this.#length - this.#splitter.heldLength - this.#stops.heldLength;
    const first = this.#waiting.findIndex(({ start }) => start >= out);
    return this.#waiting.splice(0, first < 0 ? this.#waiting.length : first).map(({ token }) => token);
  }
}
