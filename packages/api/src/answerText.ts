/**
 * From tokens to what a client sees: detokenized, reasoning and tool calls apart from content, ended before a stop string. A token's log probability comes out with the first of
 * its text that does, so that neither is ahead of the other, and tokens of a stop string are left out with it.
 */
import type { GeneratedToken } from "@shoal/engine";
import {
  type AnswerText as Piece,
  IncrementalDetokenizer,
  ReasoningSplitter,
  type ReasoningStart,
  type TokenBytes,
  ToolCallParser,
  type ToolCallOptions,
  type ToolCallPiece,
} from "@shoal/tokenizer";
import { StopStrings } from "./stopStrings.ts";

/** What of a call has come: its beginning, or more of its arguments. */
export type CallPart = Exclude<ToolCallPiece, { readonly kind: "content" }>;

export interface AnswerPart {
  readonly reasoning: string;
  readonly content: string;
  readonly calls: readonly CallPart[];
  /** Tokens whose text begins in this part. */
  readonly tokens: readonly AnswerToken[];
}

export interface AnswerToken extends GeneratedToken {
  readonly kind: Piece["kind"];
}

export interface AnswerTextOptions {
  readonly tokenizer: TokenBytes;
  readonly reasoning: ReasoningStart;
  /** Looked for in the content, not in the reasoning, nor in calls. */
  readonly stops: readonly string[];
  /** Without them marks of calls are content. */
  readonly tools?: ToolCallOptions | undefined;
  /** Tokens whose text is wanted although the tokenizer flags them as special: tags and marks. */
  readonly marks?: ReadonlySet<number> | undefined;
}

export class AnswerText {
  readonly #detokenizer: IncrementalDetokenizer;
  readonly #splitter: ReasoningSplitter;
  readonly #stops: StopStrings;
  readonly #calls: ToolCallParser | undefined;
  /** UTF-16 units of raw text so far. */
  #length = 0;
  /** Tokens whose text has not come out, with the place where it begins. */
  #waiting: { readonly token: AnswerToken; readonly start: number }[] = [];
  #reasoningTokens = 0;

  constructor({ tokenizer, reasoning, stops, tools, marks }: AnswerTextOptions) {
    const shown: TokenBytes = {
      tokenBytes: (id) => tokenizer.tokenBytes(id),
      isSpecial: (id) => tokenizer.isSpecial(id) && marks?.has(id) !== true,
    };
    this.#detokenizer = new IncrementalDetokenizer(shown, { skipSpecialTokens: true });
    this.#calls = tools && new ToolCallParser(tools);
    this.#splitter = new ReasoningSplitter(reasoning);
    this.#stops = new StopStrings(stops);
  }

  /** A stop string was found, or there are as many calls as were wanted: no more tokens are. */
  get stopped(): boolean {
    return this.#stops.stopped || this.#calls?.complete === true;
  }

  /** Tool calls so far. */
  get calls(): number {
    return this.#calls?.calls ?? 0;
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
    if (this.stopped) return { reasoning: "", content: "", calls: [], tokens: [] };
    const text = this.#detokenizer.finish();
    const part = this.#take([...this.#splitter.push(text), ...this.#splitter.finish()], text.length);
    const rest = this.#sort(this.#calls?.finish() ?? []);
    const content = part.content + rest.content + this.#stops.finish();
    // A stop string may have been completed by the last character.
    const tokens = this.stopped ? this.#release() : this.#waiting.splice(0).map(({ token }) => token);
    return { reasoning: part.reasoning, content, calls: [...part.calls, ...rest.calls], tokens };
  }

  #take(pieces: readonly Piece[], length: number): Omit<AnswerPart, "tokens"> {
    this.#length += length;
    let reasoning = "";
    let content = "";
    const calls: CallPart[] = [];
    for (const { kind, text } of pieces) {
      if (kind === "reasoning") {
        reasoning += text;
        continue;
      }
      const sorted = this.#sort(this.#calls?.push(text) ?? [{ kind: "content", text }]);
      content += sorted.content;
      calls.push(...sorted.calls);
    }
    return { reasoning, content, calls };
  }

  #sort(pieces: readonly ToolCallPiece[]): Pick<AnswerPart, "content" | "calls"> {
    let content = "";
    const calls: CallPart[] = [];
    for (const piece of pieces) {
      if (piece.kind === "content") content += this.#stops.push(piece.text);
      else calls.push(piece);
    }
    return { content, calls };
  }

  #release(): readonly AnswerToken[] {
    const out = this.#length - this.#splitter.heldLength - (this.#calls?.heldLength ?? 0) - this.#stops.heldLength;
    const first = this.#waiting.findIndex(({ start }) => start >= out);
    return this.#waiting.splice(0, first < 0 ? this.#waiting.length : first).map(({ token }) => token);
  }
}
