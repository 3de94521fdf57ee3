/** What a model wants to have done, and what came of it. The page runs no tools: a person gives the result. */
import { useSignal } from "@preact/signals";
import type { Message, ToolCall } from "../conversations/tree.ts";
import { CodeBlock } from "../markdown/CodeBlock.tsx";
import { Icon } from "../shell/Icon.tsx";
import type { ChatState } from "./chatState.ts";

interface ToolCallsProps {
  readonly chat: ChatState;
  readonly message: Message;
  readonly calls: readonly ToolCall[];
  readonly writing: boolean;
}

export function ToolCalls({ chat, message, calls, writing }: ToolCallsProps) {
  const answered = new Set(chat.path.value.map(({ toolCallId }) => toolCallId));
  return (
    <ul class="tool-calls" aria-label="Tool calls">
      {calls.map((call, index) => (
        <li key={index}>
          <details open={!writing && !answered.has(call.id)}>
            <summary>
              <Icon name="tool" /> Calls <code>{call.name === "" ? "…" : call.name}</code>
            </summary>
            <CodeBlock language="json" code={indented(call.arguments, writing)} growing={writing} />
          </details>
          {!writing && !answered.has(call.id) && <GiveResult chat={chat} message={message} call={call} />}
        </li>
      ))}
    </ul>
  );
}

interface GiveResultProps {
  readonly chat: ChatState;
  readonly message: Message;
  readonly call: ToolCall;
}

function GiveResult({ chat, message, call }: GiveResultProps) {
  const text = useSignal("");
  return (
    <form
      class="edit"
      onSubmit={(event) => {
        event.preventDefault();
        void chat.answerTool(message.id, call.id, text.value);
      }}
    >
      <textarea
        rows={2}
        aria-label={`Result of ${call.name}`}
        placeholder="This page runs no tools. What does this one give?"
        value={text.value}
        onInput={({ currentTarget }) => (text.value = currentTarget.value)}
      />
      <div class="buttons">
        <button type="submit" disabled={chat.writing.value !== null || chat.backend.value === null}>
          Give result
        </button>
      </div>
    </form>
  );
}

export function ToolResult({ message }: { readonly message: Message }) {
  return (
    <article class="message tool" aria-label="Result of a tool">
      <details>
        <summary>
          <Icon name="tool" /> Result
        </summary>
        <CodeBlock language="json" code={message.content} growing={false} />
      </details>
    </article>
  );
}

/** Half an object is shown as it came. */
function indented(json: string, writing: boolean): string {
  if (writing) return json;
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}
