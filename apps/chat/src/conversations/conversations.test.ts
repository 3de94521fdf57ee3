import { expect, test } from "vitest";
import { ImportError, fromJson, toJson, toMarkdown } from "./files.ts";
import { Finder, groupByDate, titleOf } from "./find.ts";
import { type Conversation, type Message, adding, replacing, showing, shownPath, siblingsOf } from "./tree.ts";

const message = (id: string, parent: string | null, createdAt: number, more: Partial<Message> = {}): Message => ({
  id,
  parent,
  role: "user",
  content: id,
  createdAt,
  ...more,
});

/** a -> b -> (c -> d | e); a2 beside a. */
const TREE: Conversation = {
  id: "tree",
  title: "Capitals",
  createdAt: 1,
  updatedAt: 9,
  messages: [
    message("a", null, 1, { content: "Of France?" }),
    message("b", "a", 2, {
      role: "assistant",
      content: "Paris.",
      end: "stop",
      stats: { tokens: 3, firstTokenMs: 10, tokensPerSecond: 20 },
    }),
    message("c", "b", 3),
    message("d", "c", 4, { role: "assistant", reasoning: "so\nand so", toolCalls: [{ id: "t", name: "look", arguments: '{"a":"```"}' }] }),
    message("e", "b", 5),
    message("a2", null, 6),
  ],
  shown: "d",
};
const ids = (conversation: Conversation) => shownPath(conversation).map(({ id }) => id);

test("a path leads from the root to what is shown, and siblings stand in one place", () => {
  expect(ids(TREE)).toEqual(["a", "b", "c", "d"]);
  const [a, , c] = TREE.messages;
  expect(a && siblingsOf(TREE, a).map(({ id }) => id)).toEqual(["a", "a2"]);
  expect(c && siblingsOf(TREE, c).map(({ id }) => id)).toEqual(["c", "e"]);
});

test("showing() leads to what was said last below a message", () => {
  expect(ids(showing(TREE, "a2"))).toEqual(["a2"]);
  expect(ids(showing(TREE, "b"))).toEqual(["a", "b", "e"]);
  expect(ids(showing(TREE, "c"))).toEqual(["a", "b", "c", "d"]);
});

test("adding() puts a message on the page, replacing() changes it in its place", () => {
  const more = adding(TREE, message("f", "e", 10));
  expect(ids(more)).toEqual(["a", "b", "e", "f"]);
  expect(more.updatedAt).toBe(10);
  expect(shownPath(replacing(more, message("f", "e", 10, { content: "new" }))).at(-1)?.content).toBe("new");
});

test("fromJson() reads what toJson() wrote, under new ids", () => {
  const [read] = fromJson(toJson([TREE]));
  expect({ ...read, id: "tree" }).toEqual(TREE);
  expect(read?.id).not.toBe("tree");
});

const text = toJson([TREE]);
test.each([
  ["nonsense", "not JSON"],
  ["[]", "the file is wrong"],
  ['{"format":"other"}', "format is wrong, expected 'shoal-conversations'"],
  [text.replace('"version": 2', '"version": 3'), "version is wrong, expected 2"],
  [text.replace('"role": "assistant"', '"role": "system"'), "conversations[0].messages[1].role"],
  [text.replace('"Paris."', "7"), "conversations[0].messages[1].content"],
  [text.replace('"tokens": 3', '"tokens": -3'), "messages[1].stats.tokens"],
  [text.replace('"parent": "a"', '"parent": "nobody"'), "conversations[0].messages[1].parent"],
  [text.replace('"parent": null', '"parent": "b"'), "conversations[0].messages[0].parent"],
  [text.replace('"id": "c"', '"id": "a"'), "conversations[0].messages[2].id"],
  [text.replace('"shown": "d"', '"shown": "x"'), "conversations[0].shown"],
  [text.replace('"name": "look"', '"name": null'), "toolCalls[0].name"],
  [text.slice(0, -20), "not JSON"],
])("fromJson() refuses a wrong file and says where", (wrong, place) => {
  expect(() => fromJson(wrong)).toThrow(ImportError);
  expect(() => fromJson(wrong)).toThrow(place);
});

test("toMarkdown() has the shown path, reasoning quoted, fences that hold", () => {
  expect(toMarkdown(TREE)).toBe(
    '# Capitals\n\n## You\n\nOf France?\n\n## Model\n\nParis.\n\n## You\n\nc\n\n## Model\n\n> so\n> and so\n\nd\n\nCalls `look`:\n\n````json\n{"a":"```"}\n````\n',
  );
});

test("Finder finds all words, in any branch and in titles, whatever their case", () => {
  const finder = new Finder();
  expect(finder.search([TREE], "PARIS of")).toEqual([TREE]);
  expect(finder.search([TREE], "a2 capit")).toEqual([TREE]);
  expect(finder.search([TREE], "Paris Rome")).toEqual([]);
  expect(finder.search([TREE], "  ")).toEqual([TREE]);
});

test("groupByDate() puts the latest first, and days where they belong", () => {
  const noon = new Date(2026, 5, 15, 12).getTime();
  const at = (id: string, days: number): Conversation => ({ ...TREE, id, updatedAt: noon - days * 86_400_000 });
  const groups = groupByDate([at("old", 400), at("now", 0), at("week", 5), at("soon", -0.01), at("yesterday", 1), at("month", 20)], noon);
  expect(groups.map(({ name, conversations }) => [name, ...conversations.map(({ id }) => id)])).toEqual([
    ["Today", "soon", "now"],
    ["Yesterday", "yesterday"],
    ["Last 7 days", "week"],
    ["Last 30 days", "month"],
    ["Older", "old"],
  ]);
});

test("titleOf() is one short line", () => {
  expect(titleOf(`one\ntwo`)).toBe("one");
  expect(titleOf("x".repeat(99))).toHaveLength(60);
});
