/** A formula as MathML; as TeX until it has come, and where it is wrong. */
import { type ComponentChild, h } from "preact";
import { useEffect, useState } from "preact/hooks";
import { useTextWorker } from "./context.ts";
import type { MathElement, MathNode } from "./nodes.ts";

interface MathViewProps {
  readonly tex: string;
  readonly display: boolean;
  readonly growing: boolean;
}

export function MathView({ tex, display, growing }: MathViewProps) {
  const worker = useTextWorker();
  const [shown, setShown] = useState<{ readonly tex: string; readonly math: MathElement | string } | null>(null);
  useEffect(() => {
    // Half a formula is seldom one.
    if (growing && display) return;
    let isGone = false;
    worker.math({ tex, display }).then(
      (math) => isGone || setShown({ tex, math }),
      (error: unknown) => isGone || setShown({ tex, math: error instanceof Error ? error.message : String(error) }),
    );
    return () => {
      isGone = true;
    };
  }, [worker, tex, display, growing]);
  const math = shown?.tex === tex ? shown.math : null;
  const inside = math !== null && typeof math !== "string" ? element(math) : <code title={math ?? undefined}>{tex}</code>;
  return display ? (
    <div class="math" tabIndex={0} role="group" aria-label="Formula">
      {inside}
    </div>
  ) : (
    <span class="math">{inside}</span>
  );
}

function element({ tag, attributes, children }: MathElement): ComponentChild {
  return h(tag, attributes, children.map(node));
}

function node(child: MathNode): ComponentChild {
  return typeof child === "string" ? child : element(child);
}
