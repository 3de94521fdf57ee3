/**
 * TeX to MathML, by Temml, of which browsers render more than of KaTeX's: letters are Unicode's own, where KaTeX leaves them to an attribute that MathML Core does
 * not have. Its text is read here, not by a browser, and only what is named below gets through.
 */
import temml from "temml";
import type { MathElement, MathNode } from "./nodes.ts";

export const MAX_TEX = 4000;
/** Of the tree that comes out; a macro can make much of little. */
const MAX_NODES = 20_000;
const TAGS: ReadonlySet<string> = new Set([
  "math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "ms", "mfrac", "msqrt", "mroot", "mstyle", "merror", "mpadded", "mphantom",
  "msub", "msup", "msubsup", "munder", "mover", "munderover", "mmultiscripts", "mprescripts", "mtable", "mtr", "mtd",
]); // prettier-ignore
const ATTRIBUTES: ReadonlySet<string> = new Set([
  "display", "displaystyle", "scriptlevel", "stretchy", "fence", "separator", "form", "symmetric", "largeop", "movablelimits", "accent", "accentunder",
  "lspace", "rspace", "minsize", "maxsize", "width", "height", "depth", "voffset", "linethickness", "mathvariant", "columnspan", "rowspan", "dir",
]); // prettier-ignore
const STYLES =
  /^(?:padding(?:-left|-right)?|margin-left|margin-right|color|background-color|text-align|math-depth|math-style|font-weight)$/;
const STYLE_VALUE = /^[\w.#%+-]+(?: [\w.#%+-]+){0,3}$/;

/** @throws Error whose message says what is wrong with the formula */
export function renderMath(tex: string, display: boolean): MathElement {
  if (tex.length > MAX_TEX) throw new Error(`Cannot show the formula: it has ${tex.length} characters, expected at most ${MAX_TEX}`);
  const text = temml.renderToString(tex, {
    displayMode: display,
    throwOnError: true,
    trust: false,
    maxExpand: 500,
    maxSize: [20, 60],
    xml: false,
  });
  return readMathMl(text);
}

/** The first element of a text of Temml's. Elements that are not known give way to what they hold; attributes that are not known are left out. */
export function readMathMl(text: string): MathElement {
  const root: MathNode[] = [];
  const open: { readonly tag: string; readonly attributes: Readonly<Record<string, string>>; readonly children: MathNode[] }[] = [];
  let nodes = 0;
  for (const [piece, closes, tag = "", attributes = "", ends] of text.matchAll(/<(\/?)([a-zA-Z]+)((?:[^<>"]|"[^"]*")*?)(\/?)>|[^<]+|</g)) {
    if (++nodes > MAX_NODES) throw new Error(`Cannot show the formula: it has more than ${MAX_NODES} parts`);
    const children = open.at(-1)?.children ?? root;
    if (tag === "") children.push(unescape(piece));
    else if (closes === "/") {
      const closed = open.pop();
      const around = open.at(-1)?.children ?? root;
      if (closed && TAGS.has(closed.tag)) around.push(closed);
      else if (closed) around.push(...closed.children);
    } else {
      const element = { tag, attributes: attributesOf(attributes), children: [] };
      if (ends !== "/") open.push(element);
      else if (TAGS.has(tag)) children.push(element);
    }
  }
  const math = root.find((node) => typeof node !== "string" && node.tag === "math");
  if (math === undefined || typeof math === "string") throw new Error("Cannot show the formula: nothing came of it");
  return math;
}

function attributesOf(text: string): Readonly<Record<string, string>> {
  const attributes: Record<string, string> = {};
  for (const [, name = "", value = ""] of text.matchAll(/([a-z-]+)="([^"]*)"/g)) {
    if (ATTRIBUTES.has(name)) attributes[name] = unescape(value);
    else if (name === "style") {
      const style = unescape(value)
        .split(";")
        .map((part) => part.split(":").map((side) => side.trim()))
        .filter(([property = "", wanted = ""]) => STYLES.test(property) && STYLE_VALUE.test(wanted))
        .map((part) => part.join(":"))
        .join(";");
      if (style !== "") attributes["style"] = style;
    }
  }
  return attributes;
}

const ENTITIES: Readonly<Record<string, string>> = { lt: "<", gt: ">", amp: "&", quot: '"', apos: "'" };

function unescape(text: string): string {
  return text.replaceAll(
    /&(?:(lt|gt|amp|quot|apos)|#(\d{1,7})|#x([\da-f]{1,6}));/gi,
    (whole, name: string | undefined, decimal?: string, hex?: string) => {
      if (name !== undefined) return ENTITIES[name.toLowerCase()] ?? whole;
      const point = decimal === undefined ? Number.parseInt(hex ?? "", 16) : Number(decimal);
      return point <= 0x10ffff ? String.fromCodePoint(point) : whole;
    },
  );
}
