import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { linesOf, piecesOfLines } from "./codeLines.ts";
import type { HighlightNode } from "./nodes.ts";
import { isSame } from "./same.ts";
import { MAX_PART, groupsOf, sizeOf } from "./sizes.ts";
import { A_FRAME, Turns } from "./turns.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function setup() {
  let work = (): void => {};
  let asked = false;
  const turns = new Turns((given) => {
    work = given;
    return { ask: () => (asked = true) };
  });
  const frame = (): void => {
    if (!asked) return;
    asked = false;
    work();
    vi.runAllTimers();
  };
  return { turns, frame };
}

test("Turns gives a frame's share at once and the rest in the order of asking, a share a frame", () => {
  const { turns, frame } = setup();
  expect(turns.take(A_FRAME - 10)).toBe(true);
  expect(turns.take(11)).toBe(false);
  const gone: string[] = [];
  turns.wait(11, () => gone.push("a"));
  // Nobody overtakes.
  expect(turns.take(1)).toBe(false);
  turns.wait(A_FRAME, () => gone.push("b"));
  const leave = turns.wait(1, () => gone.push("c"));
  turns.wait(A_FRAME * 3, () => gone.push("d"));
  turns.wait(1, () => gone.push("e"));
  leave();
  frame();
  expect(gone).toEqual(["a"]);
  frame();
  expect(gone).toEqual(["a", "b"]);
  frame();
  // Larger than a share: a frame of its own.
  expect(gone).toEqual(["a", "b", "d"]);
  frame();
  expect(gone).toEqual(["a", "b", "d", "e"]);
  frame();
  expect(turns.take(A_FRAME)).toBe(true);
});

test("groupsOf() cuts siblings into parts of which only the last changes when more come", () => {
  const item = (words: number) => ({ children: Array.from({ length: words }, () => "word") });
  const nodes = Array.from({ length: 100 }, (_, at) => item(at % 13));
  const groups = groupsOf(nodes);
  expect(groups.flatMap((group) => group.nodes)).toEqual(nodes);
  for (const { size, nodes: some } of groups) {
    expect(size).toBeLessThanOrEqual(MAX_PART);
    expect(size).toBe(some.reduce((sum, one) => sum + sizeOf(one), 0));
  }
  expect(groupsOf([...nodes, item(50)]).slice(0, groups.length - 1)).toEqual(groups.slice(0, -1));
  expect(groupsOf([item(1000), "a"]).map(({ size }) => size)).toEqual([1001, 1]);
  expect(groupsOf([])).toEqual([]);
});

test("piecesOfLines() cuts coloured code where linesOf() cuts plain code, whatever reaches over an end", () => {
  const textOf = (nodes: readonly HighlightNode[]): string =>
    nodes.map((node) => (typeof node === "string" ? node : textOf(node.children))).join("");
  const comment = "/*\n".repeat(20);
  const pieces: HighlightNode[] = [
    "a\nb",
    { scope: "comment", children: [comment, { scope: "tag", children: ["x\n\n"] }, "\n"] },
    "\n".repeat(9),
    "end",
  ];
  const code = textOf(pieces);
  const parts = piecesOfLines(pieces);
  expect(parts.map(textOf)).toEqual(linesOf(code));
  expect(linesOf(code).join("")).toBe(code);
  expect(parts[1]).toEqual([{ scope: "comment", children: ["/*\n".repeat(8)] }]);
  expect(linesOf("a\n".repeat(8))).toEqual(["a\n".repeat(8)]);
  expect(linesOf("")).toEqual([]);
  expect(piecesOfLines([])).toEqual([]);
});

test("isSame() tells data apart by all that is in it", () => {
  const value = { a: [1, { b: "c" }], d: null };
  expect(isSame(value, structuredClone(value))).toBe(true);
  for (const other of [{ ...value, e: 1 }, { a: [1, { b: "d" }], d: null }, { a: [1], d: null }, { a: value.a }, null, [value], "a"])
    expect(isSame(value, other)).toBe(false);
  expect(isSame([], {})).toBe(false);
  expect(isSame({ a: undefined }, { b: 1 })).toBe(false);
});
