/**
 * JSON as a file format needs it: `JSON.parse` keeps the last of two equal keys and says nothing, so the text is scanned first for
 * duplicate keys and for nesting that no header has. The scan judges nothing else; what it lets through, `JSON.parse` checks.
 */

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;

export interface JsonLimits {
  readonly maxDepth: number;
  /** Arrays, objects and their elements together: bounds what a small text can blow up into. */
  readonly maxValues: number;
}

/** 100 MB of the shortest sensible tensor entries hold fewer than this many values. */
export const JSON_LIMITS: JsonLimits = { maxDepth: 16, maxValues: 16_000_000 };

export class StrictJsonError extends Error {
  override readonly name = "StrictJsonError";
  readonly kind: "syntax" | "duplicate" | "limit";

  constructor(kind: "syntax" | "duplicate" | "limit", message: string, cause?: unknown) {
    super(message, { cause });
    this.kind = kind;
  }
}

/** @throws {StrictJsonError} where the text is not JSON, repeats a key within one object, or exceeds the limits. */
export function parseStrictJson(text: string, limits: JsonLimits = JSON_LIMITS): unknown {
  const duplicate = scan(text, limits);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new StrictJsonError("syntax", cause instanceof Error ? cause.message : String(cause), cause);
  }
  if (duplicate !== null) throw new StrictJsonError("duplicate", duplicate);
  return value;
}

/** The first duplicate key, or null. In valid JSON a string inside an object is a key exactly where a colon follows. */
function scan(text: string, limits: JsonLimits): string | null {
  const stack: (Set<string> | null)[] = [];
  let duplicate: string | null = null;
  let values = 0;
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case OPEN_BRACE:
      case OPEN_BRACKET:
        stack.push(text.charCodeAt(at) === OPEN_BRACE ? new Set() : null);
        values++;
        if (stack.length > limits.maxDepth) throw new StrictJsonError("limit", `nested deeper than ${limits.maxDepth}`);
        break;
      case CLOSE_BRACE:
      case CLOSE_BRACKET:
        stack.pop();
        break;
      case COMMA:
        values++;
        break;
      case QUOTE: {
        const end = stringEnd(text, at);
        const keys = stack.at(-1);
        if (keys && duplicate === null && nextIsColon(text, end)) {
          const key = decodeString(text.slice(at, end));
          if (key !== null && keys.has(key)) duplicate = key;
          else if (key !== null) keys.add(key);
        }
        at = end - 1;
        break;
      }
      default:
    }
    if (values > limits.maxValues) throw new StrictJsonError("limit", `more than ${limits.maxValues} values`);
  }
  return duplicate;
}

/** One past the closing quote, or the end of the text. */
function stringEnd(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === BACKSLASH) at++;
    else if (code === QUOTE) return at + 1;
  }
  return text.length;
}

function nextIsColon(text: string, start: number): boolean {
  for (let at = start; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === COLON) return true;
    if (code !== 0x20 && code !== 0x09 && code !== 0x0a && code !== 0x0d) return false;
  }
  return false;
}

/** Keys are compared as what they mean: "\u0061" repeats "a". */
function decodeString(literal: string): string | null {
  if (!literal.includes("\\")) return literal.slice(1, -1);
  try {
    const value: unknown = JSON.parse(literal);
    return typeof value === "string" ? value : null;
  } catch {
    return null;
  }
}
