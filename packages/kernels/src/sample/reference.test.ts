import { describe, expect, test } from "vitest";
import { GREEDY, encodeSamplingParams } from "./params.ts";
import { keptReference, philox, sampleReference } from "./reference.ts";

describe("philox()", () => {
  // Random123 1.14, tests/kat_vectors, philox4x32 10
  test.each([
    { counter: [0, 0, 0, 0], key: [0, 0], words: [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8] },
    {
      counter: [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      key: [0xffffffff, 0xffffffff],
      words: [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    },
    {
      counter: [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      key: [0xa4093822, 0x299f31d0],
      words: [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    },
  ] as const)("philox() gives the published words for counter $counter", ({ counter, key, words }) => {
    expect(philox(counter, key)).toEqual(words);
  });
});

describe("keptReference()", () => {
  const params = { ...GREEDY, temperature: 1 };
  const logits = [Math.log(0.1), Math.log(0.4), Math.log(0.2), Math.log(0.3)];

  test("keptReference() keeps the lower of equal tokens when top-k cuts a tie", () => {
    expect(keptReference([1, 2, 2, 2], { ...params, topK: 2 }).tokens).toEqual([1, 2]);
  });

  test("keptReference() keeps the fewest tokens that reach topP of what top-k left", () => {
    expect(keptReference(logits, { ...params, topP: 0.65 }).tokens).toEqual([1, 3]);
    expect(keptReference(logits, { ...params, topP: 0.75 }).tokens).toEqual([1, 3, 2]);
    expect(keptReference(logits, { ...params, topP: 0.75, topK: 3 }).tokens).toEqual([1, 3]);
  });

  test("keptReference() drops tokens less likely than minP times the likeliest", () => {
    expect(keptReference(logits, { ...params, minP: 0.6 }).tokens).toEqual([1, 3]);
  });
});

test("sampleReference() gives token 0 when no logit is a number", () => {
  expect(sampleReference([Number.NaN, Number.NaN], { ...GREEDY, temperature: 1 }, 3).token).toBe(0);
});

test("encodeSamplingParams() rejects a topP above 1", () => {
  expect(() => encodeSamplingParams({ ...GREEDY, topP: 1.5 })).toThrow("Cannot sample with topP 1.5, expected a number from 0 to 1");
});
