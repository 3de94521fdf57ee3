/** A block of code: its language, a button that copies it, colours when they have come. */
import { type ComponentChild, h } from "preact";
import { useEffect, useState } from "preact/hooks";
import { CopyButton } from "../shell/CopyButton.tsx";
import { useTextWorker } from "./context.ts";
import type { HighlightNode } from "./nodes.ts";

/** Code that grows is coloured again this often; longer code only when it is complete. */
const AGAIN_MS = 250;
const MAX_GROWING = 8 * 1024;

interface Coloured {
  readonly code: string;
  readonly pieces: readonly HighlightNode[];
}

interface CodeBlockProps {
  readonly language: string;
  readonly code: string;
  readonly growing: boolean;
}

export function CodeBlock({ language, code, growing }: CodeBlockProps) {
  const worker = useTextWorker();
  const [coloured, setColoured] = useState<Coloured | null>(null);
  useEffect(() => {
    if (language === "" || (growing && code.length > MAX_GROWING)) return;
    let isGone = false;
    const ask = (): void => {
      worker.highlight({ language, code }).then(
        (pieces) => {
          if (!isGone && pieces) setColoured({ code, pieces });
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
        <code>{fits ? [...coloured.pieces.map(piece), code.slice(coloured.code.length)] : code}</code>
      </pre>
    </figure>
  );
}

function piece(node: HighlightNode): ComponentChild {
  return typeof node === "string" ? node : h("span", { class: `hljs-${node.scope}` }, node.children.map(piece));
}
