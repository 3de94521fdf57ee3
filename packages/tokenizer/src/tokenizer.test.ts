import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { loadTiny, makeRandom, tinyFiles } from "../test/support.ts";
import { TokenizerError } from "./error.ts";
import { loadTokenizer } from "./tokenizer.ts";

const tiny = loadTiny();
const cases = JSON.parse(readFileSync(new URL("../../model/test/fixtures/tokenizer-cases.json", import.meta.url), "utf8")) as {
  text: string;
  ids: number[];
}[];

test.each(cases)("encode() and decode() agree with the golden ids of $text", ({ text, ids }) => {
  expect(tiny.encode(text)).toEqual(ids);
  expect(tiny.decode(ids)).toBe(text);
});

test("decode() gives back any well-formed text", () => {
  const random = makeRandom(11);
  for (let round = 0; round < 500; round++) {
    const points = Array.from({ length: 1 + random(20) }, () => random([0x80, 0x800, 0x10000, 0x110000][random(4)] ?? 0x80));
    const text = String.fromCodePoint(...points).toWellFormed();
    expect(tiny.decode(tiny.encode(text))).toBe(text);
  }
});

test("encode() takes a lone surrogate for U+FFFD", () => {
  expect(tiny.encode("a\ud800b")).toEqual(tiny.encode("a\ufffdb"));
});

test("encode() adds BOS on request, as tokenizer_config.json says, and never twice", () => {
  const bos = "<｜begin▁of▁sentence｜>";
  const plain = tiny.encode("Hello");
  expect(tiny.encode("Hello", { addSpecialTokens: true })).toEqual([0, ...plain]);
  expect(tiny.encode(`${bos}Hello`, { addSpecialTokens: true })).toEqual([0, ...plain]);
  expect(tiny.encode("", { addSpecialTokens: true })).toEqual([0]);
  expect(tiny.encode("")).toEqual([]);
});

test("encode() follows a TemplateProcessing post-processor when there is no tokenizer_config.json", () => {
  const file = JSON.parse(tinyFiles.tokenizerJson) as Record<string, unknown>;
  const name = "<｜begin▁of▁sentence｜>";
  file["post_processor"] = {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: name, type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
    special_tokens: { [name]: { id: name, ids: [0], tokens: [name] } },
  };
  const tokenizer = loadTokenizer({ tokenizerJson: JSON.stringify(file) });
  expect(tokenizer.encode("Hello", { addSpecialTokens: true })).toEqual([0, ...tiny.encode("Hello")]);
  expect(tokenizer.bosTokenId).toBeUndefined();
});

test("encode() can take control tokens for plain text", () => {
  const ids = tiny.encode("<｜User｜>hi", { allowControlTokens: false });
  expect(ids).not.toContain(4094);
  expect(tiny.decode(ids)).toBe("<｜User｜>hi");
  expect(tiny.encode("<｜User｜>hi")[0]).toBe(4094);
});

test("a Tokenizer names its special tokens", () => {
  expect(tiny.vocabSize).toBe(4096);
  expect([tiny.bosTokenId, tiny.eosTokenId]).toEqual([0, 1]);
  expect(Object.fromEntries(tiny.specialTokens)).toEqual({
    "<｜begin▁of▁sentence｜>": 0,
    "<｜end▁of▁sentence｜>": 1,
    "<｜▁pad▁｜>": 2,
    "<｜User｜>": 4094,
    "<｜Assistant｜>": 4095,
  });
  expect(tiny.decode([0, 4094, 70, 1], { skipSpecialTokens: true })).toBe("<｜User｜>d");
});

test("tokenBytes() is exact for bytes, for BOS, and empty for an id without a token", () => {
  const emoji = tiny.encode("😀").flatMap((id) => [...tiny.tokenBytes(id)]);
  expect(emoji).toEqual([0xf0, 0x9f, 0x98, 0x80]);
  expect(new TextDecoder().decode(tiny.tokenBytes(0))).toBe("<｜begin▁of▁sentence｜>");
  expect(tiny.tokenBytes(999_999)).toEqual(new Uint8Array(0));
  expect(tiny.decode([999_999, 70])).toBe("d");
  expect(() => tiny.tokenBytes(-1)).toThrow(TokenizerError);
  expect(() => tiny.tokenBytes(1.5)).toThrow(TokenizerError);
});

test("tokenBytes() gives a copy, so that a caller cannot change the vocabulary", () => {
  tiny.tokenBytes(70).fill(0);
  expect(tiny.decode([70])).toBe("d");
});

test.each([" ", "a", "你", "😀"])("encode() finishes a megabyte of %j", (unit) => {
  const text = unit.repeat(Math.floor(1_000_000 / unit.length));
  const ids = tiny.encode(text);
  expect(tiny.decode(ids) === text).toBe(true);
});

test("encode() finishes a megabyte of prose and of control tokens", () => {
  const prose = readFileSync(new URL("../../model/test/fixtures/heldout-prose.txt", import.meta.url), "utf8").repeat(70);
  expect(tiny.decode(tiny.encode(prose)) === prose).toBe(true);
  expect(tiny.encode("<｜User｜>".repeat(125_000)).length).toBe(125_000);
});

test("encode() refuses text beyond its bound", () => {
  expect(() => tiny.encode("a".repeat(4 * 1024 * 1024 + 1))).toThrow(/^Cannot encode text: the text is \d+ characters, expected at most/);
});
