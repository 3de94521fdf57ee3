/**
 * Token ids to text, one at a time. A character's bytes may lie in several tokens: text comes out only once it can no longer change, so no
 * half character is ever emitted, and U+FFFD only for bytes that no continuation could make right. All outputs joined equal one decoding of
 * all bytes. O(bytes of the token) a push, whatever came before.
 */
export interface DecodeOptions {
  /** Leave out tokens flagged special (BOS, EOS, padding). Default false. */
  readonly skipSpecialTokens?: boolean;
}

/** The part of a tokenizer that turning ids into text takes. */
export interface TokenBytes {
  tokenBytes(id: number): Uint8Array;
  isSpecial(id: number): boolean;
}

export class IncrementalDetokenizer {
  readonly #tokenizer: TokenBytes;
  readonly #skipSpecialTokens: boolean;
  // A byte order mark is text like any other here: TextDecoder would swallow a leading one.
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });

  constructor(tokenizer: TokenBytes, options: DecodeOptions = {}) {
    this.#tokenizer = tokenizer;
    this.#skipSpecialTokens = options.skipSpecialTokens ?? false;
  }

  /** The text that became certain with this token: often all of it, sometimes none. */
  push(id: number): string {
    if (this.#skipSpecialTokens && this.#tokenizer.isSpecial(id)) return "";
    return this.#decoder.decode(this.#tokenizer.tokenBytes(id), { stream: true });
  }

  /** What is left at the end: U+FFFD if the last character is incomplete. Ready for another text afterwards. */
  finish(): string {
    return this.#decoder.decode();
  }
}
