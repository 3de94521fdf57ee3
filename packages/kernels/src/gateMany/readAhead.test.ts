import { expect, test } from "vitest";
import type { ExpertGroup } from "../experts.ts";
import { readAhead } from "./readAhead.ts";

/** Bytes of a word. */
const WORD = 4;

function group(experts: number, hidden: number, width: number): ExpertGroup {
  const stride = Math.ceil(hidden / 16) * 16;
  const buffer = { size: experts * 2 * width * stride } as GPUBuffer;
  return { format: "fp8", count: experts, hidden, width, gateUp: [{ buffer, firstExpert: 0, experts }], down: [] };
}

test.each([
  ["V2-Lite's", group(66, 2048, 1408)],
  ["a few small ones", group(3, 40, 8)],
  ["so many that each gives one piece", group(65_536, 16, 2)],
])("what is read ahead of %s lies within the page", (_, experts) => {
  const ahead = readAhead(experts, 32);
  const { SPANS, SPAN_PIECES, PERIOD } = ahead?.constants ?? {};
  const [spans, pieces, period] = [Number(SPANS), Number(SPAN_PIECES), Number(PERIOD)];
  const [page] = experts.gateUp;
  expect(pieces).toBeGreaterThan(0);
  expect(spans * period * WORD).toBe(page?.buffer.size);
  expect(pieces * 32).toBeLessThanOrEqual(period * WORD);
  expect(spans * pieces * 32).toBeLessThanOrEqual(2 ** 22);
  expect(ahead?.buffers["ahead"]).toBe(page?.buffer);
});

test("nothing is read ahead of rows that are too short, or of no page", () => {
  expect(readAhead(group(2 ** 17, 16, 1), 32)).toBeUndefined();
  expect(readAhead({ ...group(2, 16, 1), gateUp: [] }, 32)).toBeUndefined();
});

test("workgroups that read fill what a large GPU has room for, or are as many as the tokens'", () => {
  expect([9, 32, 64, 100].map((tokens) => readAhead(group(66, 2048, 1408), tokens)?.readers)).toEqual([13, 3, 1, 1]);
});
