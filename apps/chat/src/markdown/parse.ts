/** Markdown to nodes, by markdown-it's tokens; no HTML is made at any point. HTML in the text stays text. */
import MarkdownIt, { type Token } from "markdown-it";
import { mathRules } from "./mathRules.ts";
import { type Alignment, type Block, ELEMENT_TAGS, type ElementTag, type MarkdownNode, type ParsedText, type References } from "./nodes.ts";

/** Deeper quotes and lists are text: a thousand `>` in a row are no thousand elements. */
const MAX_NESTING = 32;
/** The only addresses that an answer may link to: none of them runs a script or names this page. */
const LINK = /^(?:https?:\/\/|mailto:)/i;
const BITMAP = /^data:image\/(?:png|jpeg|gif|webp);base64,/i;
const LINE_BREAK = /<br\s*\/?>/i;
const TAGS: ReadonlySet<string> = new Set(ELEMENT_TAGS);

export interface ParseOptions {
  readonly references?: References;
  /** More text will come: what is open at the end, such as a formula, is not yet given up as text. */
  readonly unfinished?: boolean;
}

export type Parse = (text: string, options?: ParseOptions) => ParsedText;

/** A parser; it keeps nothing from one text to the next. */
export function createParser(): Parse {
  const markdown = new MarkdownIt({ html: false, linkify: true, breaks: true, maxNesting: MAX_NESTING });
  // "example.md" and "a.b@c" are seldom meant as links.
  markdown.linkify.set({ fuzzyLink: false, fuzzyEmail: false });
  markdown.validateLink = (url) => LINK.test(url) || BITMAP.test(url);
  mathRules(markdown);
  return (text, { references = {}, unfinished = false } = {}) => {
    const env = { references: { ...references }, unfinished };
    const tokens = markdown.parse(text, env);
    return { blocks: blocksOf(tokens, text), references: env.references };
  };
}

function blocksOf(tokens: readonly Token[], text: string): readonly Block[] {
  const lines = lineStarts(text);
  const found: { readonly start: number; readonly node: MarkdownNode }[] = [];
  for (let at = 0; at < tokens.length;) {
    const first = tokens[at];
    let end = at + 1;
    if (first?.nesting === 1) while (end < tokens.length && !(tokens[end]?.level === 0 && tokens[end]?.nesting === -1)) end++;
    if (first?.nesting === 1) end++;
    const [node] = nodesOf(tokens.slice(at, end));
    if (node !== undefined) found.push({ start: lines[first?.map?.[0] ?? 0] ?? 0, node });
    at = end;
  }
  return found.map(({ start, node }, index) => ({
    start,
    begun: text.includes("\n", start),
    source: text.slice(start, found[index + 1]?.start ?? text.length),
    node,
  }));
}

function lineStarts(text: string): readonly number[] {
  const starts = [0];
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) starts.push(at + 1);
  return starts;
}

interface Open {
  readonly wrap: (children: readonly MarkdownNode[]) => MarkdownNode | undefined;
  readonly children: MarkdownNode[];
}

function nodesOf(tokens: readonly Token[]): readonly MarkdownNode[] {
  const root: MarkdownNode[] = [];
  const open: Open[] = [];
  const here = (): MarkdownNode[] => open.at(-1)?.children ?? root;
  for (const token of tokens) {
    if (token.nesting === 1) open.push({ wrap: wrapperOf(token), children: [] });
    else if (token.nesting === -1) {
      const closed = open.pop();
      const node = closed?.wrap(closed.children);
      if (node !== undefined) here().push(node);
      // Tight lists hide their paragraphs: their content stands for itself.
      else if (closed) here().push(...closed.children);
    } else here().push(...single(token));
  }
  return root;
}

function wrapperOf(token: Token): Open["wrap"] {
  if (token.hidden) return () => undefined;
  if (token.type === "link_open") {
    const href = attribute(token, "href");
    const title = attribute(token, "title");
    return (children) => (LINK.test(href) ? { kind: "link", href, title, children } : undefined);
  }
  const tag = tagOf(token.tag);
  if (tag === undefined) return () => undefined;
  const start = tag === "ol" ? Number(token.attrGet("start") ?? 1) : 1;
  const align = /text-align:\s*(left|center|right)/.exec(attribute(token, "style"))?.[1] as Alignment | undefined;
  return (children) => ({ kind: "element", tag, ...(start !== 1 && { start }), ...(align && { align }), children });
}

function single(token: Token): readonly MarkdownNode[] {
  const { type, content } = token;
  switch (type) {
    case "inline":
      return nodesOf(token.children ?? []);
    case "text":
    case "text_special":
      return withLineBreaks(content);
    case "softbreak":
    case "hardbreak":
      return [{ kind: "element", tag: "br", children: [] }];
    case "hr":
      return [{ kind: "element", tag: "hr", children: [] }];
    case "code_inline":
      return [{ kind: "element", tag: "code", children: [content] }];
    case "fence":
    case "code_block":
      return [{ kind: "code", language: /^\S{1,40}/.exec(token.info.trim())?.[0] ?? "", text: content.replace(/\n$/, "") }];
    case "math_inline":
    case "math_block":
      return [{ kind: "math", tex: content, display: token.block || token.info === "display" }];
    case "image":
      return [{ kind: "image", src: attribute(token, "src"), alt: content }];
    default:
      return content === "" ? [] : [content];
  }
}

/** Models write `<br>` in cells of tables, where Markdown has no line break. */
function withLineBreaks(text: string): readonly MarkdownNode[] {
  return text.split(LINE_BREAK).flatMap((part, index): MarkdownNode[] => {
    const shown = part === "" ? [] : [part];
    return index === 0 ? shown : [{ kind: "element", tag: "br", children: [] }, ...shown];
  });
}

function attribute(token: Token, name: string): string {
  return String(token.attrGet(name) ?? "");
}

function tagOf(tag: string): ElementTag | undefined {
  return TAGS.has(tag) ? (tag as ElementTag) : undefined;
}
