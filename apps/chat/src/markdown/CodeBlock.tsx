/** A block of code: its language, a button that copies it, colours when they have come. */
import { type ComponentChild, h } from "preact";
import { useEffect, useState } from "preact/hooks";
import { CopyButton } from "../shell/CopyButton.tsx";
import { linesOf } from "./codeLines.ts";
import { useText } from "./context.ts";
import type { HighlightNode } from "./nodes.ts";
import { Part, Parts } from "./Part.tsx";
import { partSize, sizeOfAll } from "./sizes.ts";

/** Code that grows is coloured again this often; longer code only when it is complete. */
const AGAIN_MS = 250;
const MAX_GROWING = 8 * 1024;

interface Coloured {
  readonly code: string;
  /** Of its lines, in parts. */
  readonly parts: readonly (readonly HighlightNode[])[];
}

const NOT_COLOURED: Coloured = { code: "", parts: [] };

interface CodeBlockProps {
  readonly language: string;
  readonly code: string;
  readonly growing: boolean;
}

export function CodeBlock({ language, code, growing }: CodeBlockProps) {
  const { texts: worker } = useText();
  const [coloured, setColoured] = useState<Coloured | null>(null);
  useEffect(() => {
    if (language === "" || (growing && code.length > MAX_GROWING)) return;
    let isGone = false;
    const ask = (): void => {
      worker.highlight({ language, code }).then(
        (parts) => {
          if (!isGone && parts) setColoured({ code, parts });
        },
        () => {},
      );
    };
    const timer = setTimeout(ask, growing ? AGAIN_MS : 0);
    return () => {
      isGone = true;
      clearTimeout(timer);
    };
  }, [worker, language, code, growing]);
  // Colours of what was there before hold for it until those of the rest come.
  const fits = coloured !== null && code.startsWith(coloured.code);
  return (
    <figure class="code">
      <figcaption>
        <span>{language === "" ? "code" : language}</span>
        <CopyButton text={() => code} label="Copy code" />
      </figcaption>
      {/* Long lines scroll, by keys too. */}
      <pre tabIndex={0}>
        <code>
          {partsOf(code, fits ? coloured : NOT_COLOURED).map((pieces, index) => (
            <Part key={index} value={pieces} size={partSize(1 + sizeOfAll(pieces))} show={linesView} />
          ))}
        </code>
      </pre>
    </figure>
  );
}

/** Lines of code in parts, coloured as far as colours have come. */
function partsOf(code: string, coloured: Coloured): readonly (readonly HighlightNode[])[] {
  const colouredTo = linesOf(coloured.code);
  return linesOf(code).map((text, index) => {
    const pieces = coloured.parts[index] ?? [];
    const rest = text.slice(colouredTo[index]?.length ?? 0);
    return rest === "" ? pieces : [...pieces, rest];
  });
}

function linesView(pieces: readonly HighlightNode[]): ComponentChild {
  return (
    <span class="lines">
      <Parts nodes={pieces} growing={false} show={(some) => some.map(piece)} />
    </span>
  );
}

function piece(node: HighlightNode): ComponentChild {
  return typeof node === "string" ? node : h("span", { class: `hljs-${node.scope}` }, node.children.map(piece));
}
