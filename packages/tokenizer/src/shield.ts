/**
 * Keeps text that only quotes a control token from becoming one. Before a template is rendered, a character that occurs nowhere in the chat
 * (the shield) is put inside every control token's text in the messages; after tokens have been found in the rendered prompt, it is taken out
 * again. Templates may thus trim, test and split contents as they like, and what they write themselves is found as ever.
 */
import type { AddedTokenFinder } from "./added-tokens.ts";
import { TokenizerError } from "./error.ts";

const maxDepth = 64;
/** Noncharacters, then the private use area: nothing that text has a reason to contain. */
const candidates: readonly (readonly [number, number])[] = [
  [0xfdd0, 0xfdef],
  [0xe000, 0xf8ff],
];

/** JSON-like data with every string in it replaced, keys too. */
export function mapStrings(value: unknown, replace: (text: string) => string, depth = 0): unknown {
  if (depth > maxDepth) throw new TokenizerError("render the chat", "a message or tool", "nested deeper", `at most ${maxDepth} levels`);
  if (typeof value === "string") return replace(value);
  if (Array.isArray(value)) return value.map((item) => mapStrings(item, replace, depth + 1));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [replace(key), mapStrings(item, replace, depth + 1)]));
}

/** A character that none of the strings in the data contains. */
export function chooseShield(value: unknown): string {
  const used = new Set<number>();
  mapStrings(value, (text) => {
    for (const match of text.matchAll(/[\uE000-\uF8FF\uFDD0-\uFDEF]/gu)) used.add(match[0].charCodeAt(0));
    return text;
  });
  for (const [first, last] of candidates) {
    for (let code = first; code <= last; code++) if (!used.has(code)) return String.fromCharCode(code);
  }
  throw new TokenizerError("render the chat", "the messages", "text with every private-use character", "one that is left unused");
}

/**
 * Puts the shield behind the first character of every control token's text, at overlapping places too. `exempt` may stay tokens. The same
 * string comes back if there is none.
 */
export function shieldText(text: string, controls: AddedTokenFinder, shield: string, exempt: readonly string[]): string {
  let out = "";
  let from = 0;
  for (let i = 0; i < text.length; i++) {
    const token = controls.longestAt(text, i);
    if (token === undefined || exempt.includes(token.content)) continue;
    const end = i + ((text.codePointAt(i) ?? 0) > 0xffff ? 2 : 1);
    out += text.slice(from, end) + shield;
    from = end;
  }
  return from === 0 ? text : out + text.slice(from);
}
