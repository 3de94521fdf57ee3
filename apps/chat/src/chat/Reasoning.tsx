/** What a model thinks before it answers: open while it does, folded after, unless somebody has chosen otherwise. */
import { useState } from "preact/hooks";
import { Markdown } from "../markdown/Markdown.tsx";

interface ReasoningProps {
  readonly text: string;
  readonly isGoing: boolean;
}

export function Reasoning({ text, isGoing }: ReasoningProps) {
  const [chosen, setChosen] = useState<boolean | null>(null);
  const isOpen = chosen ?? isGoing;
  return (
    <details
      class={isGoing ? "reasoning going" : "reasoning"}
      open={isOpen}
      onToggle={({ currentTarget }) => {
        if (currentTarget.open !== isOpen) setChosen(currentTarget.open);
      }}
    >
      <summary>{isGoing ? "Reasoning…" : "Reasoning"}</summary>
      {isOpen && <Markdown text={text} finished={!isGoing} />}
    </details>
  );
}
