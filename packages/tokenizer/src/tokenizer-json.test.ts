import { expect, test } from "vitest";
import { tinyFiles } from "../test/support.ts";
import { TokenizerError } from "./error.ts";
import { loadTokenizer } from "./tokenizer.ts";

interface File {
  [field: string]: unknown;
  added_tokens: Record<string, unknown>[];
  model: { [field: string]: unknown; vocab: Record<string, unknown>; merges: unknown[] };
}

/** The tiny model's file with something changed. */
function changed(change: (file: File) => void): string {
  const file = JSON.parse(tinyFiles.tokenizerJson) as File;
  change(file);
  return JSON.stringify(file);
}

function errorOf(run: () => unknown): TokenizerError {
  try {
    run();
  } catch (error) {
    if (error instanceof TokenizerError) return error;
    throw error;
  }
  throw new Error("Cannot test the error: there was none");
}

const split = (pattern: unknown, behavior = "Isolated") => ({
  type: "Sequence",
  pretokenizers: [
    { type: "Split", pattern, behavior },
    { type: "ByteLevel", use_regex: false },
  ],
});

const bad: readonly (readonly [string, string, string])[] = [
  ["is empty", "", "the file"],
  ["is no JSON", "{", "the file"],
  ["is an array", "[]", "the file"],
  ["is an HTML page", "<!doctype html>", "the file"],
  ["has no model", "{}", "model"],
  ["has no vocabulary", changed((file) => delete (file.model as { vocab?: unknown }).vocab), "model.vocab"],
  ["has a vocabulary list", changed((file) => (file.model.vocab = [] as unknown as Record<string, unknown>)), "model.vocab"],
  ["is of another type", changed((file) => (file.model["type"] = "Unigram")), "model.type"],
  ["falls back to bytes", changed((file) => (file.model["byte_fallback"] = true)), "model.byte_fallback"],
  ["marks subwords", changed((file) => (file.model["continuing_subword_prefix"] = "##")), "model.continuing_subword_prefix"],
  ["has a negative id", changed((file) => (file.model.vocab["zzz"] = -1)), 'model.vocab."zzz"'],
  ["has a huge id", changed((file) => (file.model.vocab["zzz"] = 2 ** 40)), 'model.vocab."zzz"'],
  ["has a text id", changed((file) => (file.model.vocab["zzz"] = "7")), 'model.vocab."zzz"'],
  ["gives an id twice", changed((file) => (file.model.vocab["zzz"] = 70)), 'model.vocab."zzz"'],
  ["lacks a byte", changed((file) => delete file.model.vocab["!"]), "model.vocab"],
  ["has no merges", changed((file) => (file.model.merges = "x" as unknown as unknown[])), "model.merges"],
  ["merges unknown entries", changed((file) => (file.model.merges[5] = "no such")), "model.merges[5]"],
  ["merges three", changed((file) => (file.model.merges[5] = "a b c")), "model.merges[5]"],
  ["merges numbers", changed((file) => (file.model.merges[5] = [1, 2])), "model.merges[5]"],
  ["has an empty added token", changed((file) => (file.added_tokens[0] = { id: 0, content: "" })), "added_tokens[0].content"],
  ["takes an id for an added token", changed((file) => file.added_tokens.push({ id: 70, content: "<x>" })), "added_tokens[5].id"],
  ["contradicts the vocabulary", changed((file) => file.added_tokens.push({ id: 5000, content: "an" })), "added_tokens[5].id"],
  [
    "has a flag that is none",
    changed((file) => (file.added_tokens = [{ ...file.added_tokens[0], special: 1 }])),
    "added_tokens[0].special",
  ],
  ["has no pre-tokenizer", changed((file) => (file["pre_tokenizer"] = null)), "pre_tokenizer"],
  ["splits by words", changed((file) => (file["pre_tokenizer"] = { type: "Metaspace" })), "pre_tokenizer"],
  [
    "has a wrong pattern",
    changed((file) => (file["pre_tokenizer"] = split({ Regex: "(" }))),
    "pre_tokenizer.pretokenizers[0].pattern.Regex",
  ],
  ["has no pattern", changed((file) => (file["pre_tokenizer"] = split({}))), "pre_tokenizer.pretokenizers[0].pattern.Regex"],
  [
    "merges splits",
    changed((file) => (file["pre_tokenizer"] = split({ Regex: "a" }, "MergedWithNext"))),
    "pre_tokenizer.pretokenizers[0].behavior",
  ],
  ["has another normalizer", changed((file) => (file["normalizer"] = { type: "Lowercase" })), "normalizer.type"],
  ["has another post-processor", changed((file) => (file["post_processor"] = { type: "BertProcessing" })), "post_processor.type"],
];

test.each(bad)("loadTokenizer() names the field of a tokenizer.json that %s", (_, tokenizerJson, field) => {
  const error = errorOf(() => loadTokenizer({ tokenizerJson }));
  expect(error.name).toBe("TokenizerError");
  expect(error.field).toBe(field);
  expect(error.message).toBe(`Cannot read tokenizer.json: ${field} is ${error.actual}, expected ${error.expected}`);
  expect(error.message.length).toBeLessThan(400);
});

test("loadTokenizer() refuses a file beyond its bound before parsing it", () => {
  const error = errorOf(() => loadTokenizer({ tokenizerJson: " ".repeat(64 * 1024 * 1024 + 1) }));
  expect(error.actual).toBe("67108865 characters");
});

test.each([
  ["is no JSON", "nope", "the file"],
  ["names an unknown BOS", JSON.stringify({ bos_token: "<s>" }), "bos_token"],
  ["has a BOS that is no text", JSON.stringify({ bos_token: { content: 7 } }), "bos_token.content"],
  ["adds BOS maybe", JSON.stringify({ add_bos_token: "yes" }), "add_bos_token"],
  ["has a huge template", JSON.stringify({ chat_template: "x".repeat(300_000) }), "chat_template"],
  ["has no default template", JSON.stringify({ chat_template: [{ name: "rag", template: "" }] }), "chat_template"],
])("loadTokenizer() names the field of a tokenizer_config.json that %s", (_, tokenizerConfigJson, field) => {
  expect(errorOf(() => loadTokenizer({ ...tinyFiles, tokenizerConfigJson })).field).toBe(field);
});

test("loadTokenizer() takes the template called default from a list", () => {
  const templates = [
    { name: "tool_use", template: "t" },
    { name: "default", template: "d" },
  ];
  expect(loadTokenizer({ ...tinyFiles, tokenizerConfigJson: JSON.stringify({ chat_template: templates }) }).chatTemplate).toBe("d");
});

test("loadTokenizer() is not misled by names of Object.prototype in the vocabulary", () => {
  const text = tinyFiles.tokenizerJson.replace('"vocab": {', '"vocab": { "__proto__": 4090000, "constructor": 4090001,');
  expect(errorOf(() => loadTokenizer({ tokenizerJson: text })).field).toBe('model.vocab."__proto__"');
});

test("loadTokenizer() reads merges written as pairs like merges written as text", () => {
  const pairs = changed((file) => (file.model.merges = file.model.merges.map((merge) => String(merge).split(" "))));
  const text = "The capital of Peru is Lima.";
  expect(loadTokenizer({ tokenizerJson: pairs }).encode(text)).toEqual(loadTokenizer(tinyFiles).encode(text));
});

test("loadTokenizer() takes a piece whole with ignore_merges if the vocabulary has it", () => {
  const file = changed((file) => {
    file.model["ignore_merges"] = true;
    file.model.vocab["Peruzzz"] = 4093 + 10;
  });
  expect(loadTokenizer({ tokenizerJson: file }).encode("Peruzzz")).toEqual([4103]);
});
