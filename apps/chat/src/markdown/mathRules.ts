/**
 * Where formulas are in a text: $…$ and \(…\) in a line, $$…$$ and \[…\] in a line or as a block. A lone $ is a dollar: one that opens is followed by no space, one
 * that closes follows no space and comes before no digit.
 */
import type { MarkdownIt, StateBlock, StateInline } from "markdown-it";

const INLINE = [
  { open: "$$", close: "$$", display: true },
  { open: "\\[", close: "\\]", display: true },
  { open: "\\(", close: "\\)", display: false },
  { open: "$", close: "$", display: false },
] as const;
const BLOCK = [
  { open: "$$", close: "$$" },
  { open: "\\[", close: "\\]" },
] as const;
/** Longer ones are text. Also bounds the search for an end, which a text of openings alone would make quadratic. */
const MAX_FORMULA = 4000;

export function mathRules(markdown: MarkdownIt): void {
  // Before backslash escapes take `\(` apart.
  markdown.inline.ruler.before("escape", "math_inline", inlineMath);
  markdown.block.ruler.before("fence", "math_block", blockMath, { alt: ["paragraph", "reference", "blockquote", "list"] });
}

function inlineMath(state: StateInline, silent: boolean): boolean {
  const { src, pos, posMax } = state;
  const form = INLINE.find(({ open }) => src.startsWith(open, pos));
  if (!form) return false;
  const start = pos + form.open.length;
  const end = closing(src, form, start, Math.min(posMax, start + MAX_FORMULA));
  if (end < 0) return false;
  if (!silent) {
    const token = state.push("math_inline", "math", 0);
    token.content = src.slice(start, end).trim();
    token.info = form.display ? "display" : "";
  }
  state.pos = end + form.close.length;
  return true;
}

function closing(src: string, { open, close }: (typeof INLINE)[number], start: number, most: number): number {
  if (open === "$" && /\s|\$/.test(src[start] ?? " ")) return -1;
  for (let at = start; at < most; at++) {
    if (src.startsWith(close, at)) {
      const empty = src.slice(start, at).trim() === "";
      const dollar = open === "$" && (/\s/.test(src[at - 1] ?? "") || /\d/.test(src[at + 1] ?? ""));
      if (!empty && !dollar) return at;
      if (empty || open !== "$") return -1;
    } else if (src[at] === "\\") at++;
    else if (open === "$" && src[at] === "\n" && src[at + 1] === "\n") return -1;
  }
  return -1;
}

function blockMath(state: StateBlock, startLine: number, endLine: number, silent: boolean): boolean {
  const lineText = (line: number): string => state.src.slice((state.bMarks[line] ?? 0) + (state.tShift[line] ?? 0), state.eMarks[line]);
  if ((state.sCount[startLine] ?? 0) - state.blkIndent >= 4) return false;
  const first = lineText(startLine);
  const form = BLOCK.find(({ open }) => first.startsWith(open));
  if (!form) return false;
  const rest = first.slice(form.open.length);
  const lines = [rest];
  let size = rest.length;
  let line = startLine;
  while (!(lines.at(-1) ?? "").trimEnd().endsWith(form.close)) {
    // Text after the end, or no end at all: not a block of its own.
    if (lines.at(-1)?.includes(form.close) === true) return false;
    line++;
    const outside = line >= endLine || (!state.isEmpty(line) && (state.sCount[line] ?? 0) < state.blkIndent);
    if (size > MAX_FORMULA) return false;
    if (outside) {
      const { unfinished } = state.env as { readonly unfinished?: boolean };
      if (unfinished !== true || line < state.lineMax) return false;
      break;
    }
    const text = lineText(line);
    size += text.length + 1;
    lines.push(text);
  }
  if (silent) return true;
  const token = state.push("math_block", "math", 0);
  token.block = true;
  token.content = lines.join("\n").trimEnd().replace(form.close, "").trim();
  token.map = [startLine, Math.min(line + 1, endLine)];
  state.line = Math.min(line + 1, endLine);
  return true;
}
