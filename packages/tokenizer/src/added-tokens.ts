/**
 * Tokens that are found in text as a whole before BPE sees it (`added_tokens`): BOS, EOS, role marks, tags. Leftmost first, longest of
 * those, as in Hugging Face's tokenizers.
 */

export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** Left out by `skipSpecialTokens`. DeepSeek-V3 flags BOS, EOS and padding so, and not its role marks. */
  readonly special: boolean;
  /** Searched for after normalization instead of before. */
  readonly normalized: boolean;
  /** Swallows white space on that side. */
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  /** Matches only between characters that belong to no word. */
  readonly singleWord: boolean;
}

/**
 * Whether the token steers the model, so that text which only quotes it must not become it: everything flagged special, and everything
 * written as a tag (`<｜User｜>`, `<think>`), which DeepSeek leaves unflagged.
 */
export function isControlToken(token: AddedToken): boolean {
  return token.special || (token.content.length > 2 && token.content.startsWith("<") && token.content.endsWith(">"));
}

interface Node {
  readonly children: Map<number, Node>;
  token: AddedToken | undefined;
}

const wordCharacter = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}]/u;
const whiteSpace = /\p{White_Space}/u;

/** The character (one or two UTF-16 units) that ends just before `end`; empty at the text's start. */
function characterBefore(text: string, end: number): string {
  const isPair = /^[\uDC00-\uDFFF]/.test(text.charAt(end - 1));
  return text.slice(Math.max(0, end - (isPair ? 2 : 1)), end);
}

/**
 * Whether a word's character stands just before `start` or at `end`. Anchored at the front only: in V8 15.0 (Deno 2.9), until a pattern is hot,
 * a class before `$` such as `/[\p{L}]$/u` matches no letter above U+FFFF.
 */
function touchesWord(text: string, start: number, end: number): boolean {
  return wordCharacter.test(characterBefore(text, start)) || wordCharacter.test(text.slice(end, end + 2));
}

/** A run of plain text, or a token found in it. */
export type Section = string | AddedToken;

export class AddedTokenFinder {
  readonly #root: Node = { children: new Map(), token: undefined };

  constructor(tokens: Iterable<AddedToken>) {
    for (const token of tokens) {
      let node = this.#root;
      for (let i = 0; i < token.content.length; i++) {
        const unit = token.content.charCodeAt(i);
        let child = node.children.get(unit);
        if (child === undefined) node.children.set(unit, (child = { children: new Map(), token: undefined }));
        node = child;
      }
      node.token ??= token;
    }
  }

  /** The longest token whose text starts at this place. */
  longestAt(text: string, start: number): AddedToken | undefined {
    let node = this.#root.children.get(text.charCodeAt(start));
    let found: AddedToken | undefined;
    for (let i = start + 1; node !== undefined; i++) {
      found = node.token ?? found;
      node = i < text.length ? node.children.get(text.charCodeAt(i)) : undefined;
    }
    return found;
  }

  /** Cuts text into tokens and the plain text between them. */
  split(text: string): Section[] {
    const sections: Section[] = [];
    let plainFrom = 0;
    let i = 0;
    while (i < text.length) {
      const token = this.longestAt(text, i);
      if (token === undefined) {
        i++;
        continue;
      }
      let start = i;
      let end = i + token.content.length;
      i = end;
      if (token.singleWord && touchesWord(text, start, end)) continue;
      if (token.lstrip) while (start > plainFrom && whiteSpace.test(text.charAt(start - 1))) start--;
      if (token.rstrip) while (end < text.length && whiteSpace.test(text.charAt(end))) end++;
      if (start > plainFrom) sections.push(text.slice(plainFrom, start));
      sections.push(token);
      plainFrom = i = end;
    }
    if (plainFrom < text.length) sections.push(text.slice(plainFrom));
    return sections;
  }
}
