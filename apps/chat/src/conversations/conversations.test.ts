import { expect, test } from "vitest";
import { type Conversation, fromJson, search, titleOf, toJson, toMarkdown } from "./conversations.ts";
import { splitReasoning } from "../chat/reasoning.ts";

const TALK: Conversation = {
  id: "1",
  title: "Capitals",
  updatedAt: 5,
  turns: [
    { role: "user", content: "Of France?" },
    { role: "assistant", content: "Paris.", stats: { tokens: 3, firstTokenMs: 10, tokensPerSecond: 20 } },
  ],
};

test("fromJson reads what toJson wrote, under new ids", () => {
  const [read] = fromJson(toJson([TALK]));
  expect({ ...read, id: "1" }).toEqual(TALK);
  expect(read?.id).not.toBe("1");
});

test.each([
  ["nonsense", "not JSON"],
  ["[]", "the file is wrong"],
  ['{"format":"other"}', "its format"],
  [toJson([TALK]).replace('"assistant"', '"system"'), "conversations[0].turns[1].role"],
  [toJson([TALK]).replace('"Paris."', "7"), "conversations[0].turns[1].content"],
  [toJson([TALK]).replace('"tokens": 3', '"tokens": -3'), "stats.tokens"],
])("fromJson refuses a wrong file and says where", (text, place) => {
  expect(() => fromJson(text)).toThrow(place);
});

test("search looks into titles and turns", () => {
  expect(search([TALK], "PARIS")).toEqual([TALK]);
  expect(search([TALK], "capit")).toEqual([TALK]);
  expect(search([TALK], "Rome")).toEqual([]);
});

test("titles are one short line, and Markdown has every turn", () => {
  expect(titleOf(`one\ntwo`)).toBe("one");
  expect(titleOf("x".repeat(99))).toHaveLength(60);
  expect(toMarkdown(TALK)).toBe("# Capitals\n\n## You\n\nOf France?\n\n## Model\n\nParis.\n");
});

test("splitReasoning tells reasoning from the answer, while it streams and after", () => {
  expect(splitReasoning("plain")).toEqual({ reasoning: null, reasoned: true, answer: "plain" });
  expect(splitReasoning("<think>so")).toEqual({ reasoning: "so", reasoned: false, answer: "" });
  expect(splitReasoning("<think>so</think>\n\nyes")).toEqual({ reasoning: "so", reasoned: true, answer: "yes" });
  expect(splitReasoning("so</think>yes")).toEqual({ reasoning: "so", reasoned: true, answer: "yes" });
});
