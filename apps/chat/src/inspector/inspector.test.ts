import { expect, test } from "vitest";
import { tokensOf } from "./alternatives.ts";
import { ExpertHeat } from "./heat.ts";
import { RateWindow } from "./rates.ts";

test("ExpertHeat shows the most used expert of a layer as 1, and forgets slowly", () => {
  const heat = new ExpertHeat();
  const view = (...counts: number[]) => [{ layer: 2, counts: Uint32Array.from(counts), last: Int32Array.of(1) }];
  expect([...(heat.add(view(0, 4, 2))[0]?.heat ?? [])]).toEqual([0, 1, 0.5]);
  const [next] = heat.add(view(4, 0, 0));
  expect(next?.heat[0]).toBe(1);
  expect(next?.heat[1]).toBeCloseTo(0.7);
  expect([...(heat.add(view(0, 0, 0, 0))[0]?.heat ?? [])]).toEqual([0, 0, 0, 0]);
});

test("RateWindow tells tokens a second and a step of the last seconds, and nothing where none came", () => {
  const window = new RateWindow();
  expect(window.add({ completionTokens: 10, steps: 10, answers: 1 }, 0)).toBeNull();
  expect(window.add({ completionTokens: 30, steps: 20, answers: 1 }, 1000)).toEqual({ tokensPerSecond: 20, tokensPerStep: 2 });
  expect(window.add({ completionTokens: 30, steps: 20, answers: 1 }, 9000)).toBeNull();
  // Another engine.
  expect(window.add({ completionTokens: 1, steps: 1, answers: 1 }, 9500)).toBeNull();
  expect(window.add({ completionTokens: 3, steps: 3, answers: 1 }, 10_500)).toEqual({ tokensPerSecond: 2, tokensPerStep: 1 });
});

test("RateWindow counts the steps of an answer that had run ahead of its first token", () => {
  const window = new RateWindow();
  expect(window.add({ completionTokens: 100, steps: 50, answers: 0 }, 0)).toBeNull();
  expect(window.add({ completionTokens: 100, steps: 59, answers: 1 }, 4000)).toBeNull();
  expect(window.add({ completionTokens: 120, steps: 71, answers: 1 }, 6000)).toEqual({ tokensPerSecond: 10, tokensPerStep: 20 / 21 });
  expect(window.add({ completionTokens: 121, steps: 71, answers: 0 }, 6500)?.tokensPerStep).toBe(1);
  expect(window.add({ completionTokens: 121, steps: 71, answers: 0 }, 7000)?.tokensPerStep).toBe(1);
  // Drafts were right.
  expect(window.add({ completionTokens: 141, steps: 81, answers: 1 }, 8000)?.tokensPerStep).toBe(2);
});

test("tokensOf reads what a stream says of probabilities, and leaves out what is no such thing", () => {
  const entry = (token: string, logprob: number, top: unknown = []) => ({ token, logprob, bytes: [], top_logprobs: top });
  const logprobs = {
    content: [entry("a", 0, [entry("b", -1e9), { token: 7 }, null]), { token: "x" }, entry("y", Number.NaN), entry("z", 5)],
  };
  expect(tokensOf(logprobs)).toEqual([{ text: "a", probability: 1, alternatives: [{ text: "b", probability: 0 }] }]);
  for (const nothing of [null, undefined, 7, { content: "no" }]) expect(tokensOf(nothing)).toEqual([]);
});
