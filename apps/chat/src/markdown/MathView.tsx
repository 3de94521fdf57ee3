/** A formula as MathML; as TeX until it has come, and where it is wrong. */
import { type ComponentChild, h } from "preact";
import { useEffect, useState } from "preact/hooks";
import { useText } from "./context.ts";
import type { MathElement, MathNode } from "./nodes.ts";
import { Part } from "./Part.tsx";
import { sizeOf } from "./sizes.ts";

interface MathViewProps {
  readonly tex: string;
  readonly display: boolean;
  readonly growing: boolean;
}

export function MathView({ tex, display, growing }: MathViewProps) {
  const { texts: worker } = useText();
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
  const value: MathElement | Source = math !== null && typeof math !== "string" ? math : { source: tex, title: math };
  const inside = <Part value={value} size={"tag" in value ? sizeOf(value) : 1} show={formula} />;
  return display ? (
    <div class="math" tabIndex={0} role="group" aria-label="Formula">
      {inside}
    </div>
  ) : (
    <span class="math">{inside}</span>
  );
}

/** TeX, and what is wrong with it. */
interface Source {
  readonly source: string;
  readonly title: string | null;
}

function formula(value: MathElement | Source): ComponentChild {
  return "tag" in value ? element(value) : <code title={value.title ?? undefined}>{value.source}</code>;
}

function element({ tag, attributes, children }: MathElement): ComponentChild {
  return h(tag, attributes, children.map(node));
}

function node(child: MathNode): ComponentChild {
  return typeof child === "string" ? child : element(child);
}
