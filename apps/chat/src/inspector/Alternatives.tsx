/** The last answer, token by token: pointing at one, or going to it with the keyboard, shows what else was likely there. */
import { useSignal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import type { ShownToken } from "./alternatives.ts";

/** Tokens that are compared with what is on the page together, or not at all. */
const RUN = 20;

interface AlternativesProps {
  readonly tokens: readonly ShownToken[];
  /** Tokens of the answer before these. */
  readonly before: number;
}

export function Alternatives({ tokens, before }: AlternativesProps) {
  // Of the answer; one that is no longer here counts as none.
  const at = useSignal<number | null>(null);
  const last = before + tokens.length - 1;
  const place = at.value === null || at.value < before || at.value > last ? last : at.value;
  const pointed = tokens[place - before];
  if (tokens.length === 0) return <p class="quiet">The next answer shows its tokens here, and what else was likely at each place.</p>;
  const runs: { readonly key: number; readonly first: number; readonly tokens: readonly ShownToken[] }[] = [];
  for (let from = before; from <= last;) {
    const key = Math.floor(from / RUN);
    const to = Math.min(last + 1, (key + 1) * RUN);
    runs.push({ key, first: from, tokens: tokens.slice(from - before, to - before) });
    from = to;
  }
  const point = (index: number): void => {
    at.value = index;
  };
  return (
    <>
      <div
        class="tokens"
        role="slider"
        tabIndex={0}
        aria-label="Token"
        aria-valuemin={before + 1}
        aria-valuemax={last + 1}
        aria-valuenow={place + 1}
        aria-valuetext={pointed && `${visible(pointed.text)}, ${percent(pointed.probability)}`}
        onKeyDown={(event) => {
          const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
          if (by === undefined) return;
          event.preventDefault();
          at.value = Math.min(last, Math.max(before, place + by));
        }}
      >
        {runs.map((run) => (
          <Run {...run} pointed={at.value !== null && Math.floor(at.value / RUN) === run.key ? at.value : null} point={point} />
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
                  <meter value={probability} max={1} aria-hidden="true" /> <span>{percent(probability)}</span>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </>
  );
}

interface RunProps {
  /** Of the answer. */
  readonly first: number;
  readonly tokens: readonly ShownToken[];
  readonly pointed: number | null;
  readonly point: (index: number) => void;
}

function Run({ first, tokens, pointed, point }: RunProps) {
  // Tokens come, and never change.
  return useMemo(
    () => (
      <>
        {tokens.map(({ text, probability }, at) => (
          <span
            key={first + at}
            class={first + at === pointed ? "token pointed" : "token"}
            style={{ "--unsure": String(1 - probability) }}
            onPointerEnter={() => point(first + at)}
            onClick={() => point(first + at)}
          >
            {visible(text)}
          </span>
        ))}
      </>
    ),
    [tokens[0], tokens.length, first, pointed],
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
