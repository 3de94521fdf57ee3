/** An empty conversation: what one could ask. */
import type { ChatState } from "./chatState.ts";

const EXAMPLES = [
  ["What is the capital of France?", "A fact"],
  ["Tell me a story about a brave fox and a lantern.", "A story"],
  ["Give me JSON for Japan.", "Data"],
  ["What is 348 + 257?", "A sum"],
] as const;

export function Welcome({ chat }: { readonly chat: ChatState }) {
  const destination = chat.backend.value?.destination;
  return (
    <div class="welcome">
      <h1>What would you like to know?</h1>
      <p class="lead">{destination === undefined ? "What you write stays on this device." : `What you write goes to ${destination}.`}</p>
      <ul>
        {EXAMPLES.map(([text, kind]) => (
          <li key={text}>
            <button
              type="button"
              disabled={chat.backend.value === null}
              onClick={() => {
                chat.draft.value = text;
                void chat.send();
              }}
            >
              <span class="quiet">{kind}</span>
              {text}
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}
