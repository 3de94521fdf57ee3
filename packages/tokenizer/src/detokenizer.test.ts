import { expect, test } from "vitest";
import { makeRandom, pick } from "../test/support.ts";
import { IncrementalDetokenizer, type TokenBytes } from "./detokenizer.ts";

/** A vocabulary of byte strings; the last one is flagged special. */
function vocabulary(entries: readonly (readonly number[])[]): TokenBytes {
  return { tokenBytes: (id) => Uint8Array.from(entries[id] ?? []), isSpecial: (id) => id === entries.length - 1 };
}

function decodeAll(parts: readonly Uint8Array[]): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(parts.flatMap((part) => [...part])));
}

const texts = ["a", "é", "—“”", "你好，世界", "😀", "🇫🇷🇩🇪", "👩‍👩‍👧", "\ufeffbom\ufeff", "e\u0301", "x\u{10ffff}\uffff\u0000y", "مرحبا नमस्ते"];
const malformed = [
  [0x80],
  [0xc0, 0xaf],
  [0xe2, 0x82],
  [0xe2, 0x41],
  [0xe0, 0x80, 0x80],
  [0xed, 0xa0, 0x80],
  [0xf0, 0x9f, 0x98],
  [0xf0, 0x9f, 0xf0, 0x9f, 0x98, 0x80],
  [0xf4, 0x90, 0x80, 0x80],
  [0xf5],
  [0xff, 0xfe],
];

test("IncrementalDetokenizer joins to the full text at every pair of split points", () => {
  const encoder = new TextEncoder();
  const all = [...texts.map((text) => [...encoder.encode(text)]), ...malformed, ...malformed.map((bytes) => [0x41, ...bytes, 0x42])];
  for (const bytes of all) {
    for (let i = 0; i <= bytes.length; i++) {
      for (let j = i; j <= bytes.length; j++) {
        const parts = [bytes.slice(0, i), bytes.slice(i, j), bytes.slice(j)];
        const source = vocabulary([...parts, []]);
        const detokenizer = new IncrementalDetokenizer(source);
        const text = [0, 1, 2].map((id) => detokenizer.push(id)).join("") + detokenizer.finish();
        expect(text).toBe(decodeAll([Uint8Array.from(bytes)]));
      }
    }
  }
});

test("IncrementalDetokenizer emits only what no continuation can change, and all of it, on random streams", () => {
  const random = makeRandom(7);
  const encoder = new TextEncoder();
  const entries: number[][] = Array.from({ length: 256 }, (_, byte) => [byte]);
  for (const text of texts) {
    const bytes = [...encoder.encode(text)];
    for (let i = 0; i < bytes.length; i++) for (let j = i + 1; j <= Math.min(bytes.length, i + 4); j++) entries.push(bytes.slice(i, j));
  }
  entries.push(...malformed, []);
  const source = vocabulary(entries);
  const continuations = [[], [0x41], [0x80], [0xbf, 0x80], [0x9f, 0x98, 0x80], [0xa0, 0x80]].map((bytes) => Uint8Array.from(bytes));
  for (let round = 0; round < 300; round++) {
    const detokenizer = new IncrementalDetokenizer(source);
    const parts: Uint8Array[] = [];
    let text = "";
    // Half of the rounds follow real text, so that characters do get completed.
    const real = round % 2 === 0 ? [...encoder.encode(pick(random, texts) + pick(random, texts))] : undefined;
    const length = real?.length ?? 1 + random(12);
    for (let step = 0; step < length; step++) {
      const id = real?.[step] ?? random(entries.length - 1);
      parts.push(source.tokenBytes(id));
      text += detokenizer.push(id);
      expect(text.isWellFormed()).toBe(true);
      for (const continuation of continuations) expect(decodeAll([...parts, continuation]).startsWith(text)).toBe(true);
      const complete = decodeAll([...parts, Uint8Array.of(0x41)]).slice(0, -1);
      // With nothing pending, everything is out.
      if (decodeAll(parts) === complete && !complete.endsWith("\ufffd")) expect(text).toBe(complete);
    }
    expect(text + detokenizer.finish()).toBe(decodeAll(parts));
  }
});

test("IncrementalDetokenizer holds a character back until its last byte, then gives it whole", () => {
  const detokenizer = new IncrementalDetokenizer(vocabulary([[0xf0], [0x9f, 0x98], [0x80, 0x21], []]));
  expect([0, 1, 2].map((id) => detokenizer.push(id))).toEqual(["", "", "😀!"]);
  expect(detokenizer.finish()).toBe("");
});

test("IncrementalDetokenizer says U+FFFD as soon as a sequence cannot become right, not before", () => {
  const detokenizer = new IncrementalDetokenizer(vocabulary([[0xe2], [0x41], [0xe0, 0x80], [0xf0, 0x9f], []]));
  expect(detokenizer.push(0)).toBe("");
  expect(detokenizer.push(1)).toBe("\ufffdA");
  expect(detokenizer.push(2)).toBe("\ufffd\ufffd");
  expect(detokenizer.push(3)).toBe("");
  expect(detokenizer.finish()).toBe("\ufffd");
});

test("IncrementalDetokenizer leaves special tokens out on request and can be used again after finish()", () => {
  const source = vocabulary([[0x61], [0xc3], [0xa9], [0x3c, 0x3e]]);
  const skipping = new IncrementalDetokenizer(source, { skipSpecialTokens: true });
  expect([0, 3, 1, 3, 2].map((id) => skipping.push(id)).join("") + skipping.finish()).toBe("aé");
  expect([1, 3].map((id) => skipping.push(id)).join("") + skipping.finish()).toBe("\ufffd");
  expect(skipping.push(0) + skipping.finish()).toBe("a");
  const keeping = new IncrementalDetokenizer(source);
  expect([0, 3, 1, 3, 2].map((id) => keeping.push(id)).join("") + keeping.finish()).toBe("a<>\ufffd<>\ufffd");
});
