import { expect, test } from "vitest";
import type { BackendChunk, BackendChoice } from "../backend.ts";
import { DEFAULT_SETTINGS, within } from "../settings/saved.ts";
import { AnswerReader } from "./answerReader.ts";
import { splitReasoning } from "./reasoning.ts";
import { requestOf } from "./request.ts";

const chunk = (delta: BackendChoice["delta"], more: Partial<BackendChunk> = {}, finish: string | null = null): BackendChunk => ({
  choices: [{ delta, finish_reason: finish }],
  ...more,
});

test("splitReasoning() tells reasoning from the answer, while it streams and after", () => {
  expect(splitReasoning("plain")).toEqual({ reasoning: null, reasoned: true, answer: "plain" });
  expect(splitReasoning("<think>so")).toEqual({ reasoning: "so", reasoned: false, answer: "" });
  expect(splitReasoning("<think>so</think>\n\nyes")).toEqual({ reasoning: "so", reasoned: true, answer: "yes" });
  expect(splitReasoning("so</think>yes")).toEqual({ reasoning: "so", reasoned: true, answer: "yes" });
});

test("AnswerReader keeps reasoning apart, in its own field or between tags", () => {
  const fields = new AnswerReader(0);
  fields.push(chunk({ reasoning_content: "hm" }), 10);
  expect(fields.answer).toEqual({ content: "", reasoning: "hm", isReasoning: true, toolCalls: [] });
  fields.push(chunk({ content: "yes" }, {}, "stop"), 20);
  expect(fields.answer).toEqual({ content: "yes", reasoning: "hm", isReasoning: false, toolCalls: [] });
  expect(fields.end).toBe("stop");
  const tags = new AnswerReader(0);
  tags.push(chunk({ content: "<think>hm" }), 10);
  expect(tags.answer.isReasoning).toBe(true);
  tags.push(chunk({ content: "</think>yes" }), 20);
  expect(tags.answer).toEqual({ content: "yes", reasoning: "hm", isReasoning: false, toolCalls: [] });
});

test("AnswerReader puts tool calls together from their parts", () => {
  const reader = new AnswerReader(0);
  const part = (index: number, more: object) => chunk({ tool_calls: [{ index, ...more }] });
  reader.push(part(0, { id: "c1", type: "function", function: { name: "weather", arguments: '{"ci' } }), 1);
  reader.push(part(1, { id: "c2", function: { name: "time", arguments: "{}" } }), 2);
  reader.push(part(0, { function: { arguments: 'ty":"Oslo"}' } }), 3);
  reader.push(chunk({}, {}, "tool_calls"), 4);
  expect(reader.answer.toolCalls).toEqual([
    { id: "c1", name: "weather", arguments: '{"city":"Oslo"}' },
    { id: "c2", name: "time", arguments: "{}" },
  ]);
  expect(reader.end).toBe("tool_calls");
});

test("AnswerReader leaves out what makes no sense", () => {
  const reader = new AnswerReader(0);
  const odd = { content: 7, reasoning_content: {}, tool_calls: [null, 7, { index: -1, function: "x" }, { index: 2 ** 60 }] };
  reader.push(chunk(odd as unknown as BackendChoice["delta"], {}, "nonsense"), 1);
  reader.push({ choices: [] }, 2);
  expect(reader.answer.content).toBe("");
  expect(reader.end).toBeUndefined();
  for (let index = 0; index < 1000; index++) reader.push(chunk({ tool_calls: [{ index, function: { name: "x" } }] }), 3);
  expect(reader.answer.toolCalls).toHaveLength(128);
});

test("AnswerReader takes the backend's times, or its own where there are none", () => {
  const told = new AnswerReader(0);
  told.push(chunk({ content: "a" }), 100);
  told.push({ choices: [], usage: { completion_tokens: 11 }, timings: { first_token_ms: 50, decode_ms: 1000 } }, 200);
  expect(told.stats).toEqual({ tokens: 11, firstTokenMs: 50, tokensPerSecond: 10 });
  const seen = new AnswerReader(1000);
  expect(seen.stats).toBeUndefined();
  for (const now of [1100, 1200, 1300]) seen.push(chunk({ content: "a" }), now);
  expect(seen.stats).toEqual({ tokens: 3, firstTokenMs: 100, tokensPerSecond: 10 });
});

test("requestOf() sends the path without reasoning, and only the settings that change something", () => {
  const said = { parent: null, createdAt: 0 };
  const request = requestOf(
    [
      { ...said, id: "1", role: "user", content: "Hi" },
      { ...said, id: "2", role: "assistant", content: "Yes", reasoning: "secret", toolCalls: [{ id: "c", name: "f", arguments: "{}" }] },
      { ...said, id: "3", role: "tool", content: "7", toolCallId: "c" },
      { ...said, id: "4", role: "assistant", content: "", end: "failed" },
    ],
    { ...DEFAULT_SETTINGS, system: "Be brief." },
  );
  expect(request).toEqual({
    messages: [
      { role: "system", content: "Be brief." },
      { role: "user", content: "Hi" },
      { role: "assistant", content: "Yes", tool_calls: [{ id: "c", type: "function", function: { name: "f", arguments: "{}" } }] },
      { role: "tool", content: "7", tool_call_id: "c" },
    ],
    stream: true,
    stream_options: { include_usage: true },
    temperature: 0,
    top_p: 1,
    max_tokens: 1024,
  });
  expect(requestOf([], { ...DEFAULT_SETTINGS, topK: 5, minP: 0.1, seed: 3 })).toMatchObject({ top_k: 5, min_p: 0.1, seed: 3 });
});

test("within() takes the nearest value that is allowed", () => {
  expect(within("temperature", 5)).toBe(2);
  expect(within("temperature", 0.72)).toBe(0.7);
  expect(within("topK", 3.4)).toBe(3);
  expect(within("topP", -1)).toBe(0.05);
  expect(within("maxTokens", Number.NaN)).toBeUndefined();
});
