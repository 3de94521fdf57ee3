/** Code in parts of a few lines. */
import type { HighlightNode } from "./nodes.ts";

const LINES = 8;

/** Each part ends with its last line's break; the last one as the code does. */
export function linesOf(code: string): readonly string[] {
  const parts: string[] = [];
  for (let from = 0; from < code.length;) {
    let end = from;
    for (let line = 0; line < LINES && end < code.length; line++) {
      const at = code.indexOf("\n", end);
      end = at < 0 ? code.length : at + 1;
    }
    parts.push(code.slice(from, end));
    from = end;
  }
  return parts;
}

/** Coloured code in the same parts. What reaches over a part's end, a comment say, goes on in the next one. */
export function piecesOfLines(pieces: readonly HighlightNode[]): readonly (readonly HighlightNode[])[] {
  const parts: (readonly HighlightNode[])[] = [];
  let line = 0;
  /** What of `nodes` belongs to the part that is being filled; `emit` takes it whenever the part is full. */
  const fill = (nodes: readonly HighlightNode[], emit: (filled: readonly HighlightNode[]) => void): readonly HighlightNode[] => {
    let filled: HighlightNode[] = [];
    const full = (): void => {
      emit(filled);
      filled = [];
    };
    for (const node of nodes) {
      if (typeof node === "string") {
        let from = 0;
        for (let at = node.indexOf("\n"); at >= 0; at = node.indexOf("\n", at + 1)) {
          if (++line < LINES) continue;
          line = 0;
          filled.push(node.slice(from, at + 1));
          from = at + 1;
          full();
        }
        if (from < node.length) filled.push(node.slice(from));
      } else {
        const { scope } = node;
        const rest = fill(node.children, (children) => {
          filled.push({ scope, children });
          full();
        });
        if (rest.length > 0) filled.push({ scope, children: rest });
      }
    }
    return filled;
  };
  const last = fill(pieces, (filled) => void parts.push(filled));
  if (last.length > 0) parts.push(last);
  return parts;
}
