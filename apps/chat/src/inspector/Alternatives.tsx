/** The last answer, token by token: pointing at one, or going to it with the keyboard, shows what else was likely there. */
import { useSignal } from "@preact/signals";
import type { ShownToken } from "./alternatives.ts";

export function Alternatives({ tokens }: { readonly tokens: readonly ShownToken[] }) {
  const at = useSignal<number | null>(null);
  const pointed = tokens[at.value ?? tokens.length - 1];
  if (tokens.length === 0) return <p class="quiet">The next answer shows its tokens here, and what else was likely at each place.</p>;
  const move = (by: number): void => {
    at.value = Math.min(tokens.length - 1, Math.max(0, (at.value ?? tokens.length - 1) + by));
  };
  return (
    <>
      <div
        class="tokens"
        role="slider"
        tabIndex={0}
        aria-label="Token"
        aria-valuemin={1}
        aria-valuemax={tokens.length}
        aria-valuenow={(at.value ?? tokens.length - 1) + 1}
        aria-valuetext={pointed && `${visible(pointed.text)}, ${percent(pointed.probability)}`}
        onKeyDown={(event) => {
          const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
          if (by === undefined) return;
          event.preventDefault();
          move(by);
        }}
      >
        {tokens.map(({ text, probability }, index) => (
          <span
            // A token's place is what it is.
            key={index}
            class={index === at.value ? "token pointed" : "token"}
            style={{ "--unsure": String(1 - probability) }}
            onPointerEnter={() => (at.value = index)}
            onClick={() => (at.value = index)}
          >
            {visible(text)}
          </span>
        ))}
      </div>
      {pointed && (
        <table class="alternatives">
          <caption class="hidden">What was likely there</caption>
          <tbody>
            {withChosen(pointed).map(({ text, probability }, rank) => (
              <tr key={rank} aria-current={text === pointed.text ? "true" : undefined}>
                <th scope="row">{visible(text)}</th>
                <td>
                  <meter value={probability} max={1} aria-hidden="true" /> {percent(probability)}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </>
  );
}

/** A token that was drawn need not be among the likeliest. */
function withChosen({ text, probability, alternatives }: ShownToken): ShownToken["alternatives"] {
  return alternatives.some((other) => other.text === text) ? alternatives : [...alternatives, { text, probability }];
}

/** Spaces and breaks can be seen. */
function visible(text: string): string {
  return text.replaceAll(" ", "·").replaceAll("\n", "↵") || "∅";
}

function percent(probability: number): string {
  return probability < 0.001 ? "< 0.1 %" : `${(probability * 100).toFixed(1)} %`;
}
