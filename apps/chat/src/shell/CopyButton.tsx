import { useEffect, useState } from "preact/hooks";
import { Icon } from "./Icon.tsx";

const SHOWN_MS = 1800;

interface CopyButtonProps {
  readonly text: () => string;
  readonly label: string;
}

/** Says for a moment whether it worked. */
export function CopyButton({ text, label }: CopyButtonProps) {
  const [said, setSaid] = useState<"Copied" | "Cannot copy" | null>(null);
  useEffect(() => {
    if (said === null) return;
    const timer = setTimeout(() => setSaid(null), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [said]);
  const copy = (): void => {
    // Not there without https.
    const writing = (navigator.clipboard as Clipboard | undefined)?.writeText(text()) ?? Promise.reject(new Error("no clipboard"));
    writing.then(
      () => setSaid("Copied"),
      () => setSaid("Cannot copy"),
    );
  };
  return (
    <button type="button" class="icon-button copy" aria-label={said ?? label} title={said ?? label} onClick={copy}>
      <Icon name={said === "Copied" ? "check" : "copy"} />
      <span class="hidden" role="status">
        {said ?? ""}
      </span>
    </button>
  );
}
