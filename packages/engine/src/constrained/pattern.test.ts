import { expect, test } from "vitest";
import { jsonPattern, lengthPattern, plainPattern } from "./pattern.ts";

test.each([
  ["^a+b?$", "a+b?"],
  ["(a|b){2,3}c{4}d{5,}", "(a|b){2,3}c{4}d{5,}"],
  [String.raw`\d\w\.\$`, String.raw`[0-9][0-9A-Z_a-z]\.\$`],
  [String.raw`[^\x00-\x7e]`, String.raw`[^\x00-~]`],
  [String.raw`[a\-z\n]`, String.raw`[\x0a\-az]`],
  ["[éa-cü]", "(?:[a-c]|é|ü)"],
  ["[α-γ]", "(?:α|β|γ)"],
  [String.raw`[^\S]`, String.raw`[\x09-\x0d ]`],
  ["(?:a)", "(?:a)"],
  ["^(a|b)$", "(a|b)"],
  ["[一-龥]", undefined],
  ["[^é]", undefined],
  ["[^]-z]", undefined],
  ["a(?=b)", undefined],
  ["a^b", undefined],
  ["^a$|b", undefined],
  ["a)", undefined],
  ["a)(b", undefined],
  ["(a", undefined],
  ["[a", undefined],
  ["a{", undefined],
  [String.raw`\p{L}`, undefined],
  [String.raw`\bword`, undefined],
  [String.raw`(a)\1`, undefined],
  ["[z-a]", undefined],
])("plainPattern() writes %s as %s", (pattern, expected) => {
  expect(plainPattern(pattern)).toBe(expected);
});

test.each([
  ['"', String.raw`\\"`],
  [String.raw`\\`, String.raw`\\\\`],
  [String.raw`[a\\]`, undefined],
  ['["]', undefined],
  ["\n", undefined],
  [String.raw`\n`, undefined],
  [String.raw`\s`, "[ ]"],
  [".", String.raw`[^\x00-\x1f"\\]`],
  ["[^a]", String.raw`[^\x00-\x1f"\\a]`],
])("jsonPattern() writes %s as %s", (pattern, expected) => {
  expect(jsonPattern(pattern)).toBe(expected);
});

test("lengthPattern() leaves characters open, and their number not", () => {
  expect(lengthPattern(2, 4)).toBe(String.raw`[^\x00-\x1f"\\]{2,4}`);
  expect(lengthPattern(2, undefined)).toBe(String.raw`[^\x00-\x1f"\\]{2,}`);
});
