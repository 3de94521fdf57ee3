/** The turns of a conversation, the one being written last. */
import { useEffect, useRef } from "preact/hooks";
import type { ChatState } from "./chatState.ts";
import type { Turn } from "../conversations/conversations.ts";
import { renderMarkdown } from "../markdown/markdown.ts";
import { splitReasoning } from "./reasoning.ts";

export function Messages({ chat }: { readonly chat: ChatState }) {
  const turns = chat.open.value?.turns ?? [];
  const writing = chat.writing.value;
  const end = useRef<HTMLDivElement>(null);
  useEffect(() => end.current?.scrollIntoView({ block: "end" }), [turns.length, writing]);
  return (
    <div class="messages">
      {turns.length === 0 && writing === null && <Welcome chat={chat} />}
      {turns.map((turn, index) => (
        <Message key={index} turn={turn}>
          <div class="actions">
            <CopyButton text={turn.role === "user" ? turn.content : splitReasoning(turn.content).answer} />
            {turn.role === "user" && (
              <button type="button" disabled={writing !== null} onClick={() => chat.edit(index)}>
                Edit
              </button>
            )}
            {turn.role === "assistant" && index === turns.length - 1 && (
              <button type="button" disabled={writing !== null} onClick={() => void chat.regenerate()}>
                Regenerate
              </button>
            )}
            {turn.stats && (
              <details class="stats">
                <summary>Speed</summary>
                {turn.stats.tokensPerSecond.toFixed(1)} tokens/s, first token after {(turn.stats.firstTokenMs / 1000).toFixed(2)} s,{" "}
                {turn.stats.tokens} tokens
              </details>
            )}
          </div>
        </Message>
      ))}
      {writing !== null && <Message turn={{ role: "assistant", content: writing }} busy />}
      <p class="hidden" role="status">
        {writing === null ? (turns.at(-1)?.role === "assistant" ? "The answer is complete." : "") : "The model is answering."}
      </p>
      <div ref={end} />
    </div>
  );
}

const EXAMPLES = [
  "What is the capital of France?",
  "Tell me a story about a brave fox and a lantern.",
  "Give me JSON for Japan.",
  "What is 348 + 257?",
];

function Welcome({ chat }: { readonly chat: ChatState }) {
  return (
    <div class="welcome">
      <h1>Ask something</h1>
      <p>The embedded model is tiny. It knows capitals, sums, spelling, some definitions, stories and poems.</p>
      <ul>
        {EXAMPLES.map((text) => (
          <li key={text}>
            <button
              type="button"
              onClick={() => {
                chat.draft.value = text;
                void chat.send();
              }}
            >
              {text}
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}

interface MessageProps {
  readonly turn: Turn;
  readonly busy?: boolean;
  readonly children?: preact.ComponentChildren;
}

function Message({ turn: { role, content }, busy = false, children }: MessageProps) {
  const { reasoning, reasoned, answer } =
    role === "assistant" ? splitReasoning(content) : { reasoning: null, reasoned: true, answer: content };
  return (
    <article class={`message ${role}`} aria-label={role === "user" ? "You" : "Model"} aria-busy={busy}>
      {reasoning !== null && (
        <details class="reasoning" open={!reasoned}>
          <summary>{reasoned ? "Reasoning" : "Reasoning…"}</summary>
          <div class="plain">{reasoning}</div>
        </details>
      )}
      {role === "user" ? <div class="plain">{answer}</div> : <Markdown text={answer} />}
      {busy && answer === "" && <span class="waiting" aria-hidden="true" />}
      {children}
    </article>
  );
}

function Markdown({ text }: { readonly text: string }) {
  const holder = useRef<HTMLDivElement>(null);
  useEffect(() => {
    for (const block of holder.current?.querySelectorAll("pre") ?? []) {
      // Long lines scroll, by keys too.
      block.tabIndex = 0;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "copy-code";
      button.textContent = "Copy code";
      button.addEventListener("click", () => void copy(block.querySelector("code")?.textContent ?? "", button));
      block.before(button);
    }
  }, [text]);
  // A fresh element for every text: the buttons above are not preact's.
  return <div key={text} ref={holder} class="markdown" dangerouslySetInnerHTML={{ __html: renderMarkdown(text) }} />;
}

function CopyButton({ text }: { readonly text: string }) {
  return (
    <button type="button" onClick={({ currentTarget }) => void copy(text, currentTarget)}>
      Copy
    </button>
  );
}

async function copy(text: string, button: HTMLButtonElement): Promise<void> {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Cannot copy";
  }
  setTimeout(() => (button.textContent = label), 1500);
}
