/**
 * tokenizer.json, untrusted, into tables: byte-level BPE only (what DeepSeek-V2, V3 and their kin ship). Everything is bounded and checked
 * here, so that encoding and decoding can rely on it.
 */
import type { AddedToken } from "./added-tokens.ts";
import type { BpeTables } from "./bpe.ts";
import { byteChars, bytesOfToken } from "./byte-alphabet.ts";
import { asArray, asFlag, asIndex, asObject, asString, at, fail, type JsonObject, parseObject, type Place } from "./json.ts";
import { type Normalize, parseNormalizer } from "./normalizer.ts";
import { type Cut, parsePreTokenizer } from "./pre-tokenizer.ts";

/** DeepSeek-V3's file has 7.8 million characters, the largest published ones some 35. */
const maxFileLength = 64 * 1024 * 1024;
const maxVocab = 1 << 20;
const maxMerges = 1 << 21;
const maxAddedTokens = 1 << 16;
const maxTokenLength = 4096;
/** Ids are below this; 4 bytes an id are spent, used or not. */
const maxId = 1 << 21;

export interface TokenizerTables {
  readonly normalize: Normalize;
  readonly preTokenize: Cut;
  readonly bpe: BpeTables;
  readonly addedTokens: readonly AddedToken[];
  /** One more than the highest id. */
  readonly vocabSize: number;
  /** The bytes of id i are `bytes[byteOffsets[i]..byteOffsets[i + 1]]`; none where no token has the id. */
  readonly bytes: Uint8Array;
  readonly byteOffsets: Uint32Array;
  /** What the post-processor puts around one text. */
  readonly prefixIds: readonly number[];
  readonly suffixIds: readonly number[];
}

export function parseTokenizerJson(text: string): TokenizerTables {
  const place: Place = { action: "read tokenizer.json", field: "the file" };
  const root = parseObject(text, maxFileLength, place);
  const top = { ...place, field: "" };
  const modelPlace = at(top, "model");
  const model = asObject(root["model"], modelPlace);
  checkModel(model, modelPlace);
  const vocab = parseVocab(model["vocab"], at(modelPlace, "vocab"));
  const addedTokens = parseAddedTokens(root["added_tokens"], vocab, at(top, "added_tokens"));
  let vocabSize = 0;
  for (const id of vocab.values()) vocabSize = Math.max(vocabSize, id + 1);
  for (const token of addedTokens) vocabSize = Math.max(vocabSize, token.id + 1);
  return {
    normalize: parseNormalizer(root["normalizer"], at(top, "normalizer")),
    preTokenize: parsePreTokenizer(root["pre_tokenizer"], at(top, "pre_tokenizer")),
    bpe: parseBpe(model, vocab, vocabSize, modelPlace),
    addedTokens,
    vocabSize,
    ...collectBytes(vocab, addedTokens, vocabSize),
    ...parsePostProcessor(root["post_processor"], vocabSize, at(top, "post_processor")),
  };
}

function checkModel(model: JsonObject, place: Place): void {
  // Files from before 2021 leave the type out.
  if (model["type"] !== undefined && model["type"] !== "BPE") fail(at(place, "type"), model["type"], '"BPE"');
  for (const key of ["continuing_subword_prefix", "end_of_word_suffix"]) {
    if (model[key] !== undefined && model[key] !== null && model[key] !== "") fail(at(place, key), model[key], "none");
  }
  if (model["dropout"] !== undefined && model["dropout"] !== null && model["dropout"] !== 0) {
    fail(at(place, "dropout"), model["dropout"], "none");
  }
  if (asFlag(model["byte_fallback"], at(place, "byte_fallback"))) fail(at(place, "byte_fallback"), true, "false");
}

function parseVocab(value: unknown, place: Place): ReadonlyMap<string, number> {
  const entries = Object.entries(asObject(value, place));
  if (entries.length > maxVocab) fail(place, entries, `at most ${maxVocab} entries`);
  const vocab = new Map<string, number>();
  const taken = new Set<number>();
  for (const [token, value] of entries) {
    if (token.length > maxTokenLength) fail(place, token, `entries of at most ${maxTokenLength} characters`);
    // The place is made only for an error: there are 128,000 entries.
    const id = isId(value) ? value : asIndex(value, maxId, at(place, JSON.stringify(token)));
    if (taken.has(id)) fail(at(place, JSON.stringify(token)), id, "an id that no other entry has");
    taken.add(id);
    vocab.set(token, id);
  }
  return vocab;
}

function isId(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value < maxId;
}

function parseAddedTokens(value: unknown, vocab: ReadonlyMap<string, number>, place: Place): readonly AddedToken[] {
  if (value === undefined || value === null) return [];
  const owners = new Map<number, string>();
  for (const [token, id] of vocab) owners.set(id, token);
  return asArray(value, maxAddedTokens, place).map((item, i) => {
    const itemPlace = at(place, i);
    const entry = asObject(item, itemPlace);
    const content = asString(entry["content"], maxTokenLength, at(itemPlace, "content"));
    if (content === "") fail(at(itemPlace, "content"), content, "some text");
    const id = asIndex(entry["id"], maxId, at(itemPlace, "id"));
    const owner = owners.get(id);
    if (owner !== undefined && owner !== content) fail(at(itemPlace, "id"), id, "an id that no other token has");
    const vocabId = vocab.get(content) ?? id;
    if (vocabId !== id) fail(at(itemPlace, "id"), id, `${vocabId}, the id of the same text in model.vocab`);
    owners.set(id, content);
    const flag = (key: string): boolean => asFlag(entry[key], at(itemPlace, key));
    return {
      id,
      content,
      special: flag("special"),
      normalized: flag("normalized"),
      lstrip: flag("lstrip"),
      rstrip: flag("rstrip"),
      singleWord: flag("single_word"),
    };
  });
}

function parseBpe(model: JsonObject, vocab: ReadonlyMap<string, number>, idLimit: number, place: Place): BpeTables {
  const byteIds = Int32Array.from(byteChars, (char, byte) => {
    const id = vocab.get(char);
    // 0xc0, 0xc1 and 0xf5 to 0xff occur in no UTF-8 text.
    const occurs = byte < 0xc0 || (byte > 0xc1 && byte < 0xf5);
    if (id === undefined && occurs)
      fail(at(place, "vocab"), [...vocab.keys()], `an object with every byte (0x${byte.toString(16)} is missing)`);
    return id ?? -1;
  });
  const mergesPlace = at(place, "merges");
  const merges = asArray(model["merges"], maxMerges, mergesPlace);
  const ranks = new Map<number, number>();
  const joined = new Int32Array(merges.length);
  merges.forEach((merge, rank) => {
    const parts: readonly unknown[] = typeof merge === "string" ? merge.split(" ") : asArray(merge, 2, at(mergesPlace, rank));
    const [left, right] = parts;
    if (parts.length !== 2 || typeof left !== "string" || typeof right !== "string")
      fail(at(mergesPlace, rank), merge, "two entries of the vocabulary");
    const leftId = vocab.get(left);
    const rightId = vocab.get(right);
    const joinedId = vocab.get(left + right);
    if (leftId === undefined || rightId === undefined || joinedId === undefined) {
      fail(at(mergesPlace, rank), merge, "two entries of the vocabulary that together are one as well");
    }
    const key = leftId * idLimit + rightId;
    // A repeated pair keeps its last rank, as in Hugging Face's reader.
    ranks.set(key, rank);
    joined[rank] = joinedId;
  });
  return { byteIds, ranks, joined, idLimit, wholePieces: wholePieces(model, vocab, place) };
}

/** With `ignore_merges`, the entries by the text they stand for; those that are no whole characters can never be a piece. */
function wholePieces(model: JsonObject, vocab: ReadonlyMap<string, number>, place: Place): ReadonlyMap<string, number> {
  const pieces = new Map<string, number>();
  if (!asFlag(model["ignore_merges"], at(place, "ignore_merges"))) return pieces;
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });
  for (const [token, id] of vocab) {
    const bytes = bytesOfToken(token);
    if (bytes === undefined) continue;
    try {
      pieces.set(decoder.decode(bytes), id);
    } catch {
      // Part of a character.
    }
  }
  return pieces;
}

function collectBytes(
  vocab: ReadonlyMap<string, number>,
  addedTokens: readonly AddedToken[],
  vocabSize: number,
): Pick<TokenizerTables, "bytes" | "byteOffsets"> {
  const encoder = new TextEncoder();
  const byId = Array.from<Uint8Array | undefined>({ length: vocabSize });
  // An entry outside the byte alphabet is meant literally, as BOS is in DeepSeek's vocabulary.
  for (const [token, id] of vocab) byId[id] = bytesOfToken(token) ?? encoder.encode(token);
  for (const token of addedTokens) byId[token.id] = encoder.encode(token.content);
  const byteOffsets = new Uint32Array(vocabSize + 1);
  byId.forEach((bytes, id) => (byteOffsets[id + 1] = (byteOffsets[id] ?? 0) + (bytes?.length ?? 0)));
  const bytes = new Uint8Array(byteOffsets[vocabSize] ?? 0);
  byId.forEach((part, id) => part !== undefined && bytes.set(part, byteOffsets[id]));
  return { bytes, byteOffsets };
}

/** ByteLevel (offsets only, nothing to do) and TemplateProcessing's form for a single text. */
function parsePostProcessor(value: unknown, vocabSize: number, place: Place): Pick<TokenizerTables, "prefixIds" | "suffixIds"> {
  const prefixIds: number[] = [];
  const suffixIds: number[] = [];
  const parseStep = (value: unknown, place: Place): void => {
    const step = asObject(value, place);
    const type = step["type"];
    if (type === "Sequence") {
      asArray(step["processors"], 16, at(place, "processors")).forEach((inner, i) => parseStep(inner, at(at(place, "processors"), i)));
    } else if (type === "TemplateProcessing") {
      const tokens = asObject(step["special_tokens"], at(place, "special_tokens"));
      let ids = prefixIds;
      asArray(step["single"], 64, at(place, "single")).forEach((item, i) => {
        const itemPlace = at(at(place, "single"), i);
        const part = asObject(item, itemPlace);
        if (part["SpecialToken"] === undefined) {
          ids = suffixIds;
          return;
        }
        const name = asString(asObject(part["SpecialToken"], itemPlace)["id"], maxTokenLength, at(itemPlace, "id"));
        const idsPlace = at(at(place, "special_tokens"), name);
        const list = asArray(asObject(Object.hasOwn(tokens, name) ? tokens[name] : undefined, idsPlace)["ids"], 64, at(idsPlace, "ids"));
        for (const id of list) ids.push(asIndex(id, vocabSize, at(idsPlace, "ids")));
      });
    } else if (type !== "ByteLevel") {
      fail(at(place, "type"), type, '"Sequence", "ByteLevel" or "TemplateProcessing"');
    }
  };
  if (value !== null && value !== undefined) parseStep(value, place);
  return { prefixIds, suffixIds };
}
