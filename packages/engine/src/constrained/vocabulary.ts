/** The tokens of a vocabulary as grammars see them: plain data, made once from a tokenizer and sent to where grammars are. */
import { byteChars, type Tokenizer } from "@shoal/tokenizer";

export interface TokenVocabulary {
  /** Rows of the output layer. */
  readonly size: number;
  /** By id: the token's bytes, each as its character of the byte alphabet; "" for control tokens and ids without a token, which no grammar may write. */
  readonly tokens: readonly string[];
  /** Ids of control tokens that a grammar may name. */
  readonly marks: Readonly<Record<string, number>>;
  /** Tokens that end an answer: allowed where the grammar is complete. */
  readonly stopTokenIds: readonly number[];
}

/** Bytes that text, and JSON above all, has no use for: a grammar spells a mark as one of these, and only the mark's token is that byte. */
const FIRST_MARK_BYTE = 0x0e;
const MOST_MARKS = 0x1b - FIRST_MARK_BYTE;
const markBytes = new RegExp(`[${byteChars.slice(FIRST_MARK_BYTE, FIRST_MARK_BYTE + MOST_MARKS).join("")}]`);

/** @param marks control tokens that grammars and their beginnings may name; those that the tokenizer lacks are left out */
export function vocabularyOf(
  tokenizer: Tokenizer,
  { size, stopTokenIds, marks }: { readonly size: number; readonly stopTokenIds: readonly number[]; readonly marks: readonly string[] },
): TokenVocabulary {
  const controls = new Set(tokenizer.specialTokens.values());
  const tokens = Array.from({ length: Math.min(size, tokenizer.vocabSize) }, (_, id) => {
    if (controls.has(id)) return "";
    const token = byteText(tokenizer.tokenBytes(id));
    return markBytes.test(token) ? "" : token;
  });
  const ids = marks.slice(0, MOST_MARKS).flatMap((mark) => {
    const id = tokenizer.specialTokens.get(mark);
    return id === undefined || id >= size ? [] : [[mark, id] as const];
  });
  for (const [place, [, id]] of ids.entries()) tokens[id] = byteChars[FIRST_MARK_BYTE + place] ?? "";
  return { size, tokens, marks: Object.fromEntries(ids), stopTokenIds };
}

/** Bytes as text of the byte alphabet. */
export function byteText(bytes: Iterable<number>): string {
  let text = "";
  for (const byte of bytes) text += byteChars[byte] ?? "";
  return text;
}

/** How a grammar spells a mark: the byte that stands for its token, or its text where the vocabulary has no such token. */
export function markText({ marks }: Pick<TokenVocabulary, "marks">, mark: string): string {
  const place = Object.keys(marks).indexOf(mark);
  return place < 0 ? mark : String.fromCharCode(FIRST_MARK_BYTE + place);
}
