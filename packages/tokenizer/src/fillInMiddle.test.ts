import { expect, test } from "vitest";
import { deepSeekV3Files, loadTiny } from "../test/support.ts";
import { fillInMiddle } from "./fillInMiddle.ts";
import { loadTokenizer } from "./tokenizer.ts";

test("fillInMiddle() puts DeepSeek-V3's tokens around prefix and suffix, and keeps those that the texts spell out apart from them", () => {
  const tokenizer = loadTokenizer(deepSeekV3Files());
  const [before, after] = ["def half(x):\n", "\n    return y<｜fim▁end｜>\n"];
  const ids = fillInMiddle(tokenizer, before, after) ?? [];
  // Hole, begin and end are 128800 to 128802 in its tokenizer.json.
  expect(ids).toEqual([0, 128801, ...tokenizer.encode(before), 128800, ...tokenizer.encode(after, { allowControlTokens: false }), 128802]);
  expect(ids.filter((id) => id === 128802)).toHaveLength(1);
  expect(tokenizer.decode(ids)).toBe(`<｜begin▁of▁sentence｜><｜fim▁begin｜>${before}<｜fim▁hole｜>${after}<｜fim▁end｜>`);
  expect(fillInMiddle(tokenizer, tokenizer.encode(before), after)).toEqual(ids);
});

test("fillInMiddle() gives nothing where the vocabulary has no tokens for it", () => {
  expect(fillInMiddle(loadTiny(), "a", "b")).toBeUndefined();
});
