import { describe, expect, it } from "vitest";

import { parseStrictJson } from "./json.ts";

describe("parseStrictJson()", () => {
  it.each([
    '{"a":1,"b":{"a":2},"c":[{"a":3},{"a":4}]}',
    '{"a":"a","b":"\\"a\\":"}',
    '["a","a"]',
    '{"a" : ["b","b"], "b"\n: 1}',
    '"x"',
    "{}",
  ])("agrees with JSON.parse on %s", (text) => {
    expect(parseStrictJson(text)).toEqual(JSON.parse(text));
  });

  it.each([
    '{"a":1,"a":1}',
    '{"x":{"a":1,"b":2,"a":1}}',
    '[{"a":1},{"a":1,"a":2}]',
    '{"a":[{"b":1}],"a" \t: 2}',
    '{"\\n":1,"\\u000a":2}',
    '{"":1,"":2}',
  ])("finds the repeated key in %s", (text) => {
    expect(() => parseStrictJson(text)).toThrow(expect.objectContaining({ kind: "duplicate" }));
  });

  it.each(["", "{", '{"a"', '{"a":', '"\\', '{"\\x":1}', "{]", "nul", '{"a":1,}'])("calls %s a syntax error", (text) => {
    expect(() => parseStrictJson(text)).toThrow(expect.objectContaining({ kind: "syntax" }));
  });

  it("allows nesting up to the limit and no deeper", () => {
    const nested = (depth: number) => "[".repeat(depth) + "]".repeat(depth);
    const limits = { maxDepth: 4, maxValues: 100 };
    expect(parseStrictJson(nested(4), limits)).toEqual([[[[]]]]);
    expect(() => parseStrictJson(nested(5), limits)).toThrow(expect.objectContaining({ kind: "limit" }));
  });

  it("allows values up to the limit and no more", () => {
    const limits = { maxDepth: 4, maxValues: 5 };
    expect(parseStrictJson("[1,2,3,4,5]", limits)).toEqual([1, 2, 3, 4, 5]);
    expect(() => parseStrictJson("[1,2,3,4,5,6]", limits)).toThrow(expect.objectContaining({ kind: "limit" }));
  });
});
