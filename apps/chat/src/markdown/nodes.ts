/**
 * A text as a tree of nodes that can do nothing: the page builds elements from these names and no others, and never parses HTML. They cross from the worker by
 * structured clone.
 */
export type MarkdownNode = string | ElementNode | LinkNode | ImageNode | CodeNode | MathSource;

export const ELEMENT_TAGS = [
  "p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "code", "em", "strong", "s",
  "table", "thead", "tbody", "tr", "th", "td",
] as const; // prettier-ignore

export type ElementTag = (typeof ELEMENT_TAGS)[number];
export type Alignment = "left" | "center" | "right";

export interface ElementNode {
  readonly kind: "element";
  readonly tag: ElementTag;
  /** Of a cell. */
  readonly align?: Alignment;
  /** Of an ordered list that does not begin with 1. */
  readonly start?: number;
  readonly children: readonly MarkdownNode[];
}

/** `href` is http, https or mailto. */
export interface LinkNode {
  readonly kind: "link";
  readonly href: string;
  readonly title: string;
  readonly children: readonly MarkdownNode[];
}

/** `src` is http, https, or a bitmap as a data address. */
export interface ImageNode {
  readonly kind: "image";
  readonly src: string;
  readonly alt: string;
}

export interface CodeNode {
  readonly kind: "code";
  /** The fence's first word; empty where there is none. */
  readonly language: string;
  readonly text: string;
}

export interface MathSource {
  readonly kind: "math";
  readonly tex: string;
  readonly display: boolean;
}

/** A block at the text's top level. Offsets count UTF-16 units of the text that was parsed. */
export interface Block {
  readonly start: number;
  /** Whether the first line has ended: as long as it has not, more text may make it part of the block before. */
  readonly begun: boolean;
  readonly source: string;
  readonly node: MarkdownNode;
}

/** Link definitions met so far, by name: text further on may use them. */
export type References = Readonly<Record<string, { readonly href: string; readonly title: string }>>;

export interface ParsedText {
  readonly blocks: readonly Block[];
  readonly references: References;
}

/** Highlighted code: text, and text under a class of highlight.js without its prefix. */
export type HighlightNode = string | { readonly scope: string; readonly children: readonly HighlightNode[] };

/** MathML, of the elements and attributes in `math.ts`. */
export type MathNode = string | MathElement;

export interface MathElement {
  readonly tag: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly children: readonly MathNode[];
}
