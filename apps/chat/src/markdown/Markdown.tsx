/** A model's text on the page. Elements are made from nodes; no HTML is parsed, so there is none to sanitize. */
import { type ComponentChild, type VNode, h } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { CodeBlock } from "./CodeBlock.tsx";
import { useText } from "./context.ts";
import { Feeder } from "./feeder.ts";
import { ImageView } from "./ImageView.tsx";
import { IncrementalMarkdown } from "./incremental.ts";
import { MathView } from "./MathView.tsx";
import type { Block, ElementNode, MarkdownNode } from "./nodes.ts";
import { Part, Parts } from "./Part.tsx";
import { partSize, sizeOf, sizeOfAll } from "./sizes.ts";

interface MarkdownProps {
  readonly text: string;
  /** Whether no more will come. */
  readonly finished: boolean;
}

export function Markdown({ text, finished }: MarkdownProps) {
  const { texts: worker } = useText();
  const begun = performance.now();
  const [blocks, setBlocks] = useState<readonly Block[] | "plain" | null>(() => (finished ? (worker.known(text)?.blocks ?? null) : null));
  const feeder = useRef<Feeder | null>(null);
  useEffect(() => {
    const made = new Feeder(new IncrementalMarkdown(worker), (shown) => setBlocks(shown ?? "plain"));
    feeder.current = made;
    return () => made.close();
  }, [worker]);
  useEffect(() => {
    if (!finished || worker.known(text)?.blocks !== blocks) feeder.current?.feed(text, finished);
  }, [text, finished, worker]);
  useLayoutEffect(() => {
    if (feeder.current) feeder.current.costMs = performance.now() - begun;
  });
  if (blocks === null || blocks === "plain")
    return <div class={blocks === null ? "markdown plain unparsed" : "markdown plain"}>{text}</div>;
  return (
    <div class="markdown">
      {blocks.map(({ node }, index) => (
        <Part
          key={index}
          value={{ node, growing: !finished && index === blocks.length - 1 }}
          size={partSize(sizeOf(node))}
          show={(block) => show(block.node, block.growing)}
        />
      ))}
    </div>
  );
}

function show(node: MarkdownNode, growing: boolean): ComponentChild {
  if (typeof node === "string") return node;
  switch (node.kind) {
    case "element":
      return element(node, growing);
    case "link":
      return (
        <a href={node.href} target="_blank" rel="noopener noreferrer" {...(node.title !== "" && { title: node.title })}>
          <Parts nodes={node.children} growing={growing} show={all} />
        </a>
      );
    case "image":
      return <ImageView src={node.src} alt={node.alt} />;
    case "code":
      return <CodeBlock language={node.language} code={node.text} growing={growing} />;
    case "math":
      return <MathView tex={node.tex} display={node.display} growing={growing} />;
  }
}

function all(nodes: readonly MarkdownNode[], growing: boolean): readonly ComponentChild[] {
  return nodes.map((node, index) => show(node, growing && index === nodes.length - 1));
}

/** The page has headings of its own above a model's. */
const HEADINGS: Readonly<Record<string, string>> = { h1: "h3", h2: "h4", h3: "h5", h4: "h6", h5: "h6", h6: "h6" };

/** Of elements and texts. Columns of a longer table have equal widths: otherwise each row that comes lays out all that are there. */
const LONG_TABLE = 1000;

function element({ tag, align, start, children }: ElementNode, growing: boolean): VNode {
  const inside = children.length > 0 ? <Parts nodes={children} growing={growing} show={all} /> : null;
  const heading = HEADINGS[tag];
  if (heading !== undefined) return h(heading, { class: `heading ${tag}` }, inside);
  // Wide tables scroll by themselves, by keys too.
  if (tag === "table")
    return h(
      "div",
      { class: "table", tabIndex: 0, role: "region", "aria-label": "Table" },
      h("table", { class: sizeOfAll(children) > LONG_TABLE ? "long" : undefined }, inside),
    );
  return h(tag, { ...(align && { class: `align-${align}` }), ...(start !== undefined && { start }) }, inside);
}
