/**
 * Regexes in a form that xgrammar (0.1.27) follows. Its classes know ASCII and, where they are negated, everything beyond it; characters beyond ASCII that a class names are wrong
 * in it. So classes are written anew: ASCII as ranges, few others as alternatives. White space and line ends beyond ASCII are taken for other characters.
 *
 * A schema's `pattern` moreover speaks of a string's text, while a grammar speaks of what stands between the quotes in JSON: there a quote or a backslash has a backslash before it,
 * and characters below U+0020 do not stand as they are. Where such a pattern leaves characters open, only those that need no escape are left.
 */

/** Some characters. */
interface Characters {
  /** Codes below 128, in order. */
  readonly ascii: readonly number[];
  /** All beyond ASCII. */
  readonly others: boolean;
  /** Some beyond ASCII. */
  readonly listed: readonly number[];
}

interface Writing {
  /** Codes below 128 that may stand by themselves. */
  readonly allowed: (code: number) => boolean;
  /** A character by itself. */
  readonly one: (character: string) => string | undefined;
}

const LAST = 0x10ffff;
/** Written as alternatives. */
const MOST_LISTED = 64;
const ASCII: readonly number[] = Array.from({ length: 128 }, (_, code) => code);
const ANY: Characters = { ascii: ASCII, others: true, listed: [] };
const DOT: Characters = { ...ANY, ascii: ASCII.filter((code) => code !== 0x0a && code !== 0x0d) };
const NAMED_SETS: Readonly<Record<string, RegExp>> = { d: /[0-9]/, w: /[0-9A-Za-z_]/, s: /[\t-\r ]/ };
const NAMED_CODES: Readonly<Record<string, number>> = { n: 0x0a, r: 0x0d, t: 0x09, f: 0x0c, v: 0x0b };

const PLAIN: Writing = { allowed: () => true, one: quoted };
const IN_JSON: Writing = {
  allowed: (code) => code >= 0x20 && code !== 0x22 && code !== 0x5c,
  one: (character) =>
    character === '"' || character === "\\" ? `\\\\${quoted(character)}` : character < " " ? undefined : quoted(character),
};

/** A string of `least` to `most` characters, in JSON. */
export function lengthPattern(least: number, most: number | undefined): string {
  return `${written(ANY, IN_JSON)}{${least},${most ?? ""}}`;
}

/** A schema's pattern, as it is between quotes. @returns undefined for one that cannot be followed */
export function jsonPattern(pattern: string): string | undefined {
  return rewritten(pattern, IN_JSON);
}

/** @returns undefined for a regex that cannot be followed */
export function plainPattern(pattern: string): string | undefined {
  return rewritten(pattern, PLAIN);
}

const ESCAPE = String.raw`\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|u\{[0-9a-fA-F]{1,6}\}|[^])`;
const PART = new RegExp(String.raw`\[(?:[^\]\\]|\\[^])*\]|${ESCAPE}|\(\?:|\{\d+(?:,\d*)?\}|[^]`, "gu");
const ATOM = new RegExp(`${ESCAPE}|[^]`, "gu");

function rewritten(pattern: string, writing: Writing): string | undefined {
  // An anchor in an alternative would be one of that alternative.
  const anchored = !hasOpenAlternatives(pattern);
  let out = "";
  let depth = 0;
  for (const match of pattern.matchAll(PART)) {
    const [part] = match;
    const at = match.index;
    if (anchored && ((part === "^" && at === 0) || (part === "$" && at === pattern.length - 1))) continue;
    let made: string | undefined;
    if (part.length > 1 && part.startsWith("[")) made = classOf(part, writing);
    else if (part === ".") made = written(DOT, writing);
    else if (part.startsWith("\\")) made = escapeOf(part, writing);
    else if (part === "(?:" || (part === "(" && pattern.charAt(at + 1) !== "?")) [made, depth] = [part, depth + 1];
    else if (part === ")") [made, depth] = [part, depth - 1];
    else if (/^(?:[*+?|]|\{\d.*)$/.test(part)) made = part;
    else if (!/^[\^${}[\]()\\]$/.test(part)) made = writing.one(part);
    if (made === undefined || depth < 0) return undefined;
    out += made;
  }
  return depth === 0 ? out : undefined;
}

/** Whether there are alternatives outside of groups. */
function hasOpenAlternatives(pattern: string): boolean {
  let depth = 0;
  for (const [part] of pattern.matchAll(PART)) {
    if (part.startsWith("(")) depth++;
    else if (part === ")") depth--;
    else if (part === "|" && depth === 0) return true;
  }
  return false;
}

function escapeOf(part: string, writing: Writing): string | undefined {
  const set = setOf(part);
  if (set) return written(set, writing);
  const code = codeOf(part);
  return code === undefined ? undefined : writing.one(String.fromCodePoint(code));
}

function classOf(part: string, writing: Writing): string | undefined {
  const negated = part.startsWith("[^");
  const ascii = new Set<number>();
  const listed = new Set<number>();
  let others = false;
  const atoms = [...part.slice(negated ? 2 : 1, -1).matchAll(ATOM)].map(([atom]) => atom);
  for (let i = 0; i < atoms.length; i++) {
    const atom = atoms[i] ?? "";
    const set = setOf(atom);
    if (set) {
      for (const code of set.ascii) ascii.add(code);
      others ||= set.others;
      continue;
    }
    const first = codeOf(atom);
    const to = atoms[i + 1] === "-" ? atoms[i + 2] : undefined;
    const last = to === undefined ? first : codeOf(to);
    if (first === undefined || last === undefined || last < first) return undefined;
    if (to !== undefined) i += 2;
    if (last - Math.max(first, 128) > MOST_LISTED) return undefined;
    for (let code = first; code <= last; code++) (code < 128 ? ascii : listed).add(code);
  }
  if (negated) {
    // What is beyond ASCII can be left out as a whole, or not at all.
    if (listed.size > 0 && !others) return undefined;
    return written({ ascii: ASCII.filter((code) => !ascii.has(code)), others: !others, listed: [] }, writing);
  }
  // Something that JSON escapes was named: then it must be written, which a class cannot say.
  if ([...ascii].some((code) => !writing.allowed(code) && !others)) return undefined;
  return listed.size > MOST_LISTED ? undefined : written({ ascii: [...ascii], others, listed: others ? [] : [...listed] }, writing);
}

/** Of a class of characters that has a name. */
function setOf(part: string): Characters | undefined {
  const name = /^\\([dws])$/i.exec(part)?.[1];
  const set = name === undefined ? undefined : NAMED_SETS[name.toLowerCase()];
  if (name === undefined || !set) return undefined;
  const others = name !== name.toLowerCase();
  return { ascii: ASCII.filter((code) => set.test(String.fromCharCode(code)) !== others), others, listed: [] };
}

function codeOf(part: string): number | undefined {
  if (!part.startsWith("\\")) return part.codePointAt(0);
  const digits = /^\\(?:x|u\{?)([0-9a-fA-F]+)\}?$/.exec(part)?.[1];
  if (digits !== undefined) {
    const code = Number.parseInt(digits, 16);
    return code <= LAST ? code : undefined;
  }
  const letter = part.charAt(1);
  return NAMED_CODES[letter] ?? (/[a-zA-Z0-9]/.test(letter) ? undefined : part.codePointAt(1));
}

/** @returns undefined where there is none of them */
function written({ ascii, others, listed }: Characters, { allowed }: Writing): string | undefined {
  const held = new Set(ascii.filter(allowed));
  if (others) return `[^${ranges(ASCII.filter((code) => !held.has(code)))}]`;
  const parts = listed.map((code) => quoted(String.fromCodePoint(code)));
  if (held.size > 0) parts.unshift(`[${ranges(ASCII.filter((code) => held.has(code)))}]`);
  if (parts.length === 0) return undefined;
  return parts.length === 1 ? parts[0] : `(?:${parts.join("|")})`;
}

function ranges(codes: readonly number[]): string {
  let out = "";
  for (let i = 0; i < codes.length;) {
    const first = codes[i] ?? 0;
    let last = first;
    for (i++; codes[i] === last + 1; i++) last++;
    out += first === last ? inClass(first) : `${inClass(first)}-${inClass(last)}`;
  }
  return out;
}

function inClass(code: number): string {
  const character = String.fromCharCode(code);
  if (/[\^\]\\[-]/.test(character)) return `\\${character}`;
  return code < 0x20 || code > 0x7e ? `\\x${code.toString(16).padStart(2, "0")}` : character;
}

function quoted(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  if (/[\^$\\.*+?()[\]{}|]/.test(character)) return `\\${character}`;
  return code < 0x20 || code === 0x7f ? `\\x${code.toString(16).padStart(2, "0")}` : character;
}
