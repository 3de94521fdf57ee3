import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Feeder } from "./feeder.ts";
import type { IncrementalMarkdown } from "./incremental.ts";
import type { Block } from "./nodes.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function setup(fails: (text: string) => boolean = () => false) {
  const asked: string[] = [];
  const shown: (readonly Block[] | null)[] = [];
  const markdown = {
    async update(text: string) {
      asked.push(text);
      if (fails(text)) throw new Error("too long");
      return [];
    },
  };
  const feeder = new Feeder(markdown as unknown as IncrementalMarkdown, (blocks) => shown.push(blocks));
  return { asked, shown, feeder };
}

test("Feeder takes together what comes while it waits, and the end at once", async () => {
  const { asked, feeder } = setup();
  feeder.feed("a", false);
  await vi.advanceTimersByTimeAsync(1);
  feeder.feed("ab", false);
  feeder.feed("abc", false);
  await vi.advanceTimersByTimeAsync(60);
  expect(asked).toEqual(["a", "abc"]);
  feeder.feed("abcd", true);
  await vi.advanceTimersByTimeAsync(0);
  expect(asked).toEqual(["a", "abc", "abcd"]);
});

test("Feeder waits the longer, the longer showing takes", async () => {
  const { asked, feeder } = setup();
  feeder.costMs = 100;
  feeder.feed("a", false);
  await vi.advanceTimersByTimeAsync(1);
  feeder.feed("ab", false);
  await vi.advanceTimersByTimeAsync(500);
  expect(asked).toEqual(["a"]);
  await vi.advanceTimersByTimeAsync(400);
  expect(asked).toEqual(["a", "ab"]);
});

test("Feeder tries a text that has failed again only when it is finished", async () => {
  const { asked, shown, feeder } = setup((text) => text === "a");
  feeder.feed("a", false);
  await vi.advanceTimersByTimeAsync(100);
  feeder.feed("ab", false);
  await vi.advanceTimersByTimeAsync(100);
  expect(asked).toEqual(["a"]);
  expect(shown).toEqual([null]);
  feeder.feed("abc", true);
  await vi.advanceTimersByTimeAsync(100);
  expect(asked).toEqual(["a", "abc"]);
  expect(shown).toEqual([null, []]);
});
