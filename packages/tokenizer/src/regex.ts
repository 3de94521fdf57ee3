/**
 * Oniguruma patterns, in which tokenizer.json states its splits, as JavaScript regular expressions with the `u` flag. The differences that
 * change ids: `\s` here has U+0085 and lacks U+FEFF, `\d` and `\w` are Unicode's. What has no equal in JavaScript (possessive quantifiers,
 * atomic groups, nested classes, inline flags other than `(?i:`) is refused.
 */
import { fail, type Place } from "./json.ts";

const maxPatternLength = 4096;

const outsideClass: Readonly<Record<string, string>> = {
  s: "\\p{White_Space}",
  S: "\\P{White_Space}",
  d: "\\p{Nd}",
  D: "\\P{Nd}",
  w: "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]",
  W: "[^\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]",
};
const insideClass: Readonly<Record<string, string>> = { ...outsideClass, w: "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}", W: "" };

/** Both cases of an ASCII letter and what else folds to it, as a class. */
function anyCase(letter: string): string {
  const lower = letter.toLowerCase();
  const folded = lower === "s" ? "\u017f" : lower === "k" ? "\u212a" : "";
  return `[${lower}${lower.toUpperCase()}${folded}]`;
}

/** `\p{L}` stays; `\p{Han}`, which JavaScript knows only as a script, becomes `\p{Script=Han}`. */
function translateProperty(property: string): string {
  try {
    return new RegExp(property, "u").source;
  } catch {
    return property.replace("{", "{Script=");
  }
}

export function compilePattern(pattern: string, place: Place): RegExp {
  if (pattern.length > maxPatternLength) fail(place, pattern, `a pattern of at most ${maxPatternLength} characters`);
  try {
    return new RegExp(translate(pattern, place), "gu");
  } catch (cause) {
    if (cause instanceof SyntaxError) return fail(place, pattern, "a regular expression that JavaScript can run");
    throw cause;
  }
}

function translate(pattern: string, place: Place): string {
  let out = "";
  let inClass = false;
  /** One entry per open group: whether letters in it match in any case. */
  const groups: boolean[] = [];
  for (let i = 0; i < pattern.length; i++) {
    const char = pattern.charAt(i);
    if (char === "\\") {
      const next = pattern.charAt(++i);
      const property = /^\\[pP]\{\w+\}/.exec(pattern.slice(i - 1, i + 64))?.[0];
      if (property !== undefined) {
        out += translateProperty(property);
        i += property.length - 2;
      } else if (inClass && next === "W") {
        fail(place, pattern, "a pattern without \\W inside a class");
      } else if (/^[\x20-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e]$/.test(next)) {
        // The u flag forbids escapes that are not needed, such as \- outside a class.
        out += `\\x${next.charCodeAt(0).toString(16)}`;
      } else {
        out += (inClass ? insideClass : outsideClass)[next] ?? `\\${next}`;
      }
    } else if (inClass) {
      if (char === "[" || pattern.startsWith("&&", i)) fail(place, pattern, "a pattern without nested classes");
      if (groups.at(-1) === true && /[A-Za-z]/.test(char)) fail(place, pattern, "a pattern without classes of letters inside (?i:");
      if (char === "]") inClass = false;
      out += char;
    } else if (char === "[") {
      inClass = true;
      out += char;
      if (pattern.charAt(i + 1) === "^") out += pattern.charAt(++i);
    } else if (char === "(") {
      const opening = /^\((\?(i:|:|=|!|<=|<!))?/.exec(pattern.slice(i, i + 4))?.[0] ?? "(";
      groups.push(opening === "(?i:" || groups.at(-1) === true);
      out += opening === "(?i:" ? "(?:" : opening;
      i += opening.length - 1;
    } else if (char === ")") {
      groups.pop();
      out += char;
    } else if (char === "]") {
      out += "\\]";
    } else if (char === "{") {
      out += /^\{\d+(,\d*)?\}/.test(pattern.slice(i, i + 16)) ? char : "\\{";
    } else if (char === "}") {
      out += /\{\d+(,\d*)?$/.test(pattern.slice(Math.max(0, i - 16), i)) ? char : "\\}";
    } else {
      out += groups.at(-1) === true && /[A-Za-z]/.test(char) ? anyCase(char) : char;
    }
  }
  return out;
}
