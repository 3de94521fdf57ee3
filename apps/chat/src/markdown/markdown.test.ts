import { expect, test } from "vitest";
import { createHighlight } from "./highlight.ts";
import { IncrementalMarkdown } from "./incremental.ts";
import { readMathMl, renderMath } from "./math.ts";
import type { ElementTag, MarkdownNode } from "./nodes.ts";
import { createParser } from "./parse.ts";

const parse = createParser();
const nodes = (text: string) => parse(text).blocks.map(({ node }) => node);
const element = (tag: ElementTag, ...children: readonly MarkdownNode[]): MarkdownNode => ({ kind: "element", tag, children });

test("parse() gives blocks with the text that each stands for", () => {
  const text = "# One\n\nTwo *three*\nfour\n\n- a\n- b\n\n```js\nx = 1\n```\n";
  const { blocks } = parse(text);
  expect(blocks.map(({ source }) => source).join("")).toBe(text);
  expect(blocks.map(({ node }) => node)).toEqual([
    element("h1", "One"),
    element("p", "Two ", element("em", "three"), element("br"), "four"),
    element("ul", element("li", "a"), element("li", "b")),
    { kind: "code", language: "js", text: "x = 1" },
  ]);
});

test("parse() knows tables, their alignment, and the line breaks that models write in them", () => {
  const [table] = nodes("|a|b|\n|:-:|--|\n|x<br>y|z|\n");
  expect(JSON.stringify(table)).toContain('{"kind":"element","tag":"th","align":"center","children":["a"]}');
  expect(JSON.stringify(table)).toContain('"children":["x",{"kind":"element","tag":"br","children":[]},"y"]');
});

test.each([
  "<script>alert(1)</script>",
  "<img src=x onerror=alert(1)>",
  "<div onclick=alert(1)>\n<b>x</b>\n</div>",
  "[x](javascript:alert(1))",
  "[x](JaVaScRiPt:alert(1))",
  "[x](&#106;avascript:alert(1))",
  "[x](data:text/html,<script>alert(1)</script>)",
  "[x](data:image/svg+xml;base64,AAAA)",
  "[x](data:image/png;base64,AAAA)",
  "![x](javascript:alert(1))",
  "![x](data:image/svg+xml;base64,AAAA)",
  "[x](/relative) [y](//other.example) [z](vbscript:x) [w](file:///etc/passwd)",
  "[x][r]\n\n[r]: javascript:alert(1)",
])("parse() makes nothing that acts of %s", (text) => {
  const found = JSON.stringify(nodes(text));
  expect(found).not.toContain('"kind":"link"');
  expect(found).not.toContain('"kind":"image"');
  for (const tag of found.matchAll(/"tag":"(\w+)"/g)) expect(["p", "br"]).toContain(tag[1]);
});

test("parse() finds formulas, and leaves dollars alone", () => {
  const inline = (tex: string): MarkdownNode => ({ kind: "math", tex, display: false });
  const display = (tex: string): MarkdownNode => ({ kind: "math", tex, display: true });
  expect(nodes("so $x^2$ and \\(y\\)")).toEqual([element("p", "so ", inline("x^2"), " and ", inline("y"))]);
  expect(nodes("$$\na\n\nb\n$$\n\n\\[c\\]\n\nx $$d$$ y")).toEqual([
    display("a\n\nb"),
    display("c"),
    element("p", "x ", display("d"), " y"),
  ]);
  for (const text of ["It costs $5 or $6.", "a $ b $ c", "$ x$", "from $1 to $20", "only $$ here", "\\$x\\$", "`$x$`"])
    expect(JSON.stringify(nodes(text)), text).not.toContain("math");
});

test("parse() holds an open formula back while text comes, and gives it up as text after", () => {
  expect(parse("$$\na +", { unfinished: true }).blocks[0]?.node).toEqual({ kind: "math", tex: "a +", display: true });
  expect(nodes("$$\na +")).toEqual([element("p", "$$", element("br"), "a +")]);
});

test.each([
  ["brackets", "[".repeat(20_000)],
  ["quotes", "> ".repeat(10_000)],
  ["lists", "- ".repeat(10_000)],
  ["dollars", "$a".repeat(10_000)],
  ["parentheses", "\\(".repeat(10_000)],
  ["display", "$$\n".repeat(5000)],
])("parse() ends, with a bounded depth, on many %s", (_name, text) => {
  const depth = (node: MarkdownNode): number =>
    typeof node === "object" && "children" in node ? 1 + Math.max(0, ...node.children.map(depth)) : 0;
  expect(Math.max(0, ...nodes(text).map(depth))).toBeLessThan(64);
});

const LONG = [
  "# Title\n\nA paragraph\nwith #tag lines\n***bold*** and\n- a list\n- of two\n\n  with more\n\nafter it\n\n1. x\n2. y\n   - z\n\n",
  "```ts\nconst a = 1;\n\n# not a heading\n```\n\n> quote\ngoes on\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nSetext\n===\n\n$$\nx\n\ny\n$$\n\n[link][ref] text\n\n",
  "[ref]: https://a.example\n\n[later][ref]\n\n---\n\n    indented\n\nend $x$ <b>html</b>\n",
].join("");

test("IncrementalMarkdown shows at every moment what parsing all of the text would, and keeps what does not change", async () => {
  for (const step of [1, 7, 60]) {
    const asked: number[] = [];
    const incremental = new IncrementalMarkdown({
      parse: async ({ text, references, unfinished }) => {
        asked.push(text.length);
        return parse(text, { references, unfinished });
      },
    });
    let before: readonly unknown[] = [];
    for (let end = step; end <= LONG.length; end += step) {
      const text = LONG.slice(0, end);
      const shown = await incremental.update(text, false);
      const whole = parse(text, { unfinished: true }).blocks;
      expect(shown.map(({ start }) => start)).toEqual(whole.map(({ start }) => start));
      // A link whose definition has only just come stays text until the end.
      if (!text.includes("[ref]:")) expect(shown).toEqual(whole);
      if (shown.length > 3) expect(shown[0]).toBe(before[0]);
      before = shown;
    }
    expect(Math.max(...asked)).toBeLessThan(LONG.length / 2);
    expect(await incremental.update(LONG, true)).toEqual(parse(LONG).blocks);
  }
});

test("renderMath() gives MathML's elements only", () => {
  const math = renderMath("\\frac{a}{b} \\le \\mathbb{R} \\begin{pmatrix}1&2\\end{pmatrix}", true);
  const text = JSON.stringify(math);
  expect(math.tag).toBe("math");
  expect(text).toContain('"tag":"mfrac"');
  expect(text).toContain("ℝ");
  expect(text).toContain('"tag":"mtable"');
});

test.each([
  "\\href{javascript:alert(1)}{x}",
  "\\url{javascript:x}",
  "\\includegraphics{http://a.example/x.png}",
  "\\html{x}",
  "\\class{a}{b}",
  "\\style{color:red}{b}",
])("renderMath() makes no address of %s", (tex) => {
  let text = "";
  try {
    text = JSON.stringify(renderMath(tex, false));
  } catch (error) {
    text = String(error);
  }
  expect(text).not.toMatch(/"(?:href|src|class)"/);
});

test("readMathMl() leaves out what it does not know", () => {
  expect(
    readMathMl(
      '<math onclick="x" display="block"><script>alert(1)</script><mi href="javascript:x" style="color:red;background:url(x)">&lt;&#x78;</mi></math>',
    ),
  ).toEqual({
    tag: "math",
    attributes: { display: "block" },
    children: ["alert(1)", { tag: "mi", attributes: { style: "color:red" }, children: ["<x"] }],
  });
});

test("renderMath() refuses bombs", () => {
  expect(() =>
    renderMath("\\def\\a{xx}\\def\\b{\\a\\a\\a\\a}\\def\\c{\\b\\b\\b\\b\\b\\b\\b\\b\\b\\b\\b\\b}".concat("\\c".repeat(900)), false),
  ).toThrow();
  expect(() => renderMath("x".repeat(5000), false)).toThrow("at most 4000");
});

test("highlight() colours what it knows, and says so of the rest", () => {
  const highlight = createHighlight();
  expect(highlight("js", "let a = 1")).toEqual([{ scope: "keyword", children: ["let"] }, " a = ", { scope: "number", children: ["1"] }]);
  expect(highlight("TSX", "a")).not.toBeNull();
  expect(highlight("nonsense", "a")).toBeNull();
  expect(JSON.stringify(highlight("html", "<script>alert(1)</script>"))).toContain("script");
});
