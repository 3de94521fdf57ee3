import { expect, test } from "vitest";
import { TokenizerError } from "./error.ts";
import { compilePattern } from "./regex.ts";

const place = { action: "read a pattern", field: "pattern" };

function matches(pattern: string, text: string): string[] {
  return [...text.matchAll(compilePattern(pattern, place))].map((match) => match[0]);
}

test("compilePattern() reads \\s as Unicode's white space: with U+0085, without U+FEFF", () => {
  expect(matches("\\s+", "a\u0085\ufeff\u2003b")).toEqual(["\u0085", "\u2003"]);
  expect(matches("[^\\s]", "\u0085\ufeff")).toEqual(["\ufeff"]);
  expect(matches("\\s+(?!\\S)", "   a")).toEqual(["  "]);
});

test("compilePattern() accepts escapes and brackets that JavaScript's u flag forbids", () => {
  expect(matches("[\\-\\/\\'\\#]+|\\!|\\-", "-/'#!-")).toEqual(["-/'#", "!", "-"]);
  expect(matches("]|a{2}|}", "]aa}")).toEqual(["]", "aa", "}"]);
});

test("compilePattern() matches any case inside (?i:) only", () => {
  expect(matches("(?i:'s|'re)|x", "'S 'rE X x")).toEqual(["'S", "'rE", "x"]);
});

test("compilePattern() knows scripts and properties of Unicode", () => {
  expect(matches("[\\p{Han}]+|\\p{N}{1,3}|\\d", "中文1234٣")).toEqual(["中文", "123", "4٣"]);
  expect(matches("\\w+", "naïve_中1 -")).toEqual(["naïve_中1"]);
});

test.each(["a++", "(?>a)", "[a[b]]", "[\\w&&a]", "(", "[\\W]", "(?i:[a-z])", "\\p{Nonsense}", "a".repeat(5000)])(
  "compilePattern() refuses %s",
  (pattern) => {
    expect(() => compilePattern(pattern, place)).toThrow(TokenizerError);
  },
);
