/**
 * Cuts text into the pieces that BPE works on, as tokenizer.json's `pre_tokenizer` says: Sequence, Split, Digits and ByteLevel, the kinds that
 * byte-level BPE vocabularies use. Pieces are strings; their joined text is the input (unless a Split removes its matches).
 */
import { TokenizerError } from "./error.ts";
import { asArray, asFlag, asObject, asString, at, fail, type JsonObject, type Place } from "./json.ts";
import { compilePattern } from "./regex.ts";

/** One step: from pieces to smaller pieces. */
export type Cut = (pieces: readonly string[]) => readonly string[];

const maxSteps = 32;
const gpt2Pattern = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/** Matches and gaps each become a piece; `keepMatches` or `keepGaps` false drops them. Linear in the text for sane patterns. */
function splitBy(regex: RegExp, keepMatches: boolean, keepGaps: boolean): Cut {
  return (pieces) => {
    const out: string[] = [];
    for (const piece of pieces) {
      let end = 0;
      for (const match of matches(piece, regex)) {
        const text = match[0];
        if (text === "") continue;
        if (keepGaps && match.index > end) out.push(piece.slice(end, match.index));
        if (keepMatches) out.push(text);
        end = match.index + text.length;
      }
      if (keepGaps && end < piece.length) out.push(piece.slice(end));
    }
    return out;
  };
}

/** The engine's backtracking has a stack of its own, which a run of millions of characters in one match can exhaust. */
function matches(piece: string, regex: RegExp): readonly RegExpExecArray[] {
  try {
    return [...piece.matchAll(regex)];
  } catch (cause) {
    const actual = `${piece.length} characters on which a pattern of tokenizer.json gives up`;
    throw new TokenizerError("encode text", "the text", actual, "one without runs of millions of like characters", cause);
  }
}

function parseSplit(step: JsonObject, place: Place): Cut {
  const patternPlace = at(place, "pattern");
  const pattern = asObject(step["pattern"], patternPlace);
  const literal = pattern["String"];
  const regex =
    literal === undefined
      ? compilePattern(asString(pattern["Regex"], 4096, at(patternPlace, "Regex")), at(patternPlace, "Regex"))
      : new RegExp(asString(literal, 4096, at(patternPlace, "String")).replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"), "gu");
  const invert = asFlag(step["invert"], at(place, "invert"));
  const behavior = step["behavior"];
  if (behavior === "Isolated") return splitBy(regex, true, true);
  if (behavior === "Removed") return splitBy(regex, invert, !invert);
  return fail(at(place, "behavior"), behavior, '"Isolated" or "Removed"');
}

function parseStep(value: unknown, place: Place, cuts: Cut[]): void {
  const step = asObject(value, place);
  const type = step["type"];
  if (cuts.length >= maxSteps) fail(place, value, `at most ${maxSteps} steps`);
  if (type === "Sequence") {
    const listPlace = at(place, "pretokenizers");
    asArray(step["pretokenizers"], maxSteps, listPlace).forEach((inner, i) => parseStep(inner, at(listPlace, i), cuts));
  } else if (type === "Split") {
    cuts.push(parseSplit(step, place));
  } else if (type === "Digits") {
    const single = asFlag(step["individual_digits"], at(place, "individual_digits"));
    cuts.push(splitBy(single ? /\p{N}/gu : /\p{N}+/gu, true, true));
  } else if (type === "ByteLevel") {
    if (asFlag(step["add_prefix_space"], at(place, "add_prefix_space"))) {
      cuts.push((pieces) => pieces.map((piece) => (piece.startsWith(" ") ? piece : ` ${piece}`)));
    }
    // Hugging Face's default for a missing `use_regex` is true.
    if (step["use_regex"] !== false) cuts.push(splitBy(compilePattern(gpt2Pattern, place), true, true));
  } else {
    fail(at(place, "type"), type, '"Sequence", "Split", "Digits" or "ByteLevel"');
  }
}

function containsByteLevel(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  const step = value as JsonObject;
  return step["type"] === "ByteLevel" || (Array.isArray(step["pretokenizers"]) && step["pretokenizers"].some(containsByteLevel));
}

export function parsePreTokenizer(value: unknown, place: Place): Cut {
  if (!containsByteLevel(value)) fail(place, value, "one with a ByteLevel step (only byte-level BPE is supported)");
  const cuts: Cut[] = [];
  parseStep(value, place, cuts);
  return (pieces) => cuts.reduce((current, cut) => cut(current), pieces);
}
