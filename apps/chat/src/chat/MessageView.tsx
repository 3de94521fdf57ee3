/** One message: what was said, and what can be done with it. */
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import type { Message } from "../conversations/tree.ts";
import { siblingsOf } from "../conversations/tree.ts";
import { Markdown } from "../markdown/Markdown.tsx";
import { CopyButton } from "../shell/CopyButton.tsx";
import { IconButton } from "../shell/IconButton.tsx";
import { type Answer, NO_ANSWER } from "./answerReader.ts";
import type { ChatState } from "./chatState.ts";
import { EditMessage } from "./EditMessage.tsx";
import { Reasoning } from "./Reasoning.tsx";
import { ToolCalls, ToolResult } from "./ToolCalls.tsx";

interface MessageViewProps {
  readonly chat: ChatState;
  readonly message: Message;
}

export function MessageView({ chat, message }: MessageViewProps) {
  if (message.role === "user") return <UserMessage chat={chat} message={message} />;
  if (message.role === "tool") return <ToolResult message={message} />;
  return <AssistantMessage chat={chat} message={message} />;
}

function UserMessage({ chat, message }: MessageViewProps) {
  const article = useRef<HTMLElement>(null);
  const isEditing = chat.editing.value === message.id;
  const left = useRef(false);
  useLayoutEffect(() => {
    if (isEditing || !left.current) return;
    left.current = false;
    article.current?.querySelector<HTMLElement>("button.edit-button")?.focus();
  }, [isEditing]);
  const leave = (): void => {
    left.current = true;
    chat.editing.value = null;
  };
  if (isEditing) return <EditMessage chat={chat} message={message} onLeave={leave} />;
  return (
    <article ref={article} class="message user" aria-label="You">
      <div class="bubble plain">{message.content}</div>
      <Actions chat={chat} message={message} text={message.content}>
        <IconButton
          icon="edit"
          label="Edit"
          class="edit-button"
          disabled={chat.writing.value !== null || chat.backend.value === null}
          onClick={() => (chat.editing.value = message.id)}
        />
      </Actions>
    </article>
  );
}

function AssistantMessage({ chat, message }: MessageViewProps) {
  const writing = chat.writing.value?.messageId === message.id;
  const { content, reasoning, isReasoning, toolCalls } = writing ? chat.live.value : answerOf(message);
  const isEmpty = content === "" && reasoning === "" && toolCalls.length === 0;
  return (
    <article class="message assistant" aria-label="Model" aria-busy={writing}>
      {reasoning !== "" && <Reasoning text={reasoning} isGoing={writing && isReasoning} />}
      {content !== "" && <Markdown key={message.id} text={content} finished={!writing} />}
      {toolCalls.length > 0 && <ToolCalls chat={chat} message={message} calls={toolCalls} writing={writing} />}
      {writing && (isEmpty || !isReasoning) && (
        <span class="waiting" aria-hidden="true">
          <i />
          <i />
          <i />
        </span>
      )}
      {!writing && (
        <>
          <Ending chat={chat} message={message} />
          <Actions chat={chat} message={message} text={content}>
            <IconButton
              icon="retry"
              label="Regenerate"
              disabled={chat.writing.value !== null || chat.backend.value === null}
              onClick={() => void chat.regenerate(message.id)}
            />
            {message.stats && message.end !== "failed" && <Speed stats={message.stats} />}
          </Actions>
        </>
      )}
    </article>
  );
}

function answerOf({ content, reasoning = "", toolCalls = NO_ANSWER.toolCalls }: Message): Answer {
  return { content, reasoning, isReasoning: false, toolCalls };
}

const ENDINGS = {
  stopped: "Stopped.",
  length: "The answer reached the longest that the settings allow.",
  left: "This answer is not complete.",
} as const;

function Ending({ chat, message: { id, end, error } }: MessageViewProps) {
  if (end === "stop" || end === "tool_calls") return null;
  if (end !== "failed") return <p class="ending">{ENDINGS[end ?? "left"]}</p>;
  const busy = chat.backend.value === null || chat.writing.value !== null;
  return (
    <div class="ending failed" role="alert">
      <p>The answer broke off. {error}</p>
      <button type="button" disabled={busy} onClick={() => void chat.regenerate(id)}>
        Try again
      </button>
    </div>
  );
}

interface ActionsProps extends MessageViewProps {
  readonly text: string;
  readonly children: ComponentChildren;
}

function Actions({ chat, message, text, children }: ActionsProps) {
  return (
    <div class="actions">
      <Siblings chat={chat} message={message} />
      {text !== "" && <CopyButton text={() => text} label="Copy" />}
      {children}
    </div>
  );
}

/** Where a question was edited or an answer asked for again: from one to the other. */
function Siblings({ chat, message }: MessageViewProps) {
  const conversation = chat.open.value;
  const siblings = conversation ? siblingsOf(conversation, message) : [];
  const at = siblings.findIndex(({ id }) => id === message.id);
  if (siblings.length < 2) return null;
  const turn = (by: number): void => {
    const other = siblings[at + by];
    if (other) chat.turnTo(other.id);
  };
  const busy = chat.writing.value !== null && chat.writing.value.conversationId === conversation?.id;
  return (
    <div class="siblings" role="group" aria-label="Versions">
      <IconButton icon="left" label="Previous version" disabled={busy || at === 0} onClick={() => turn(-1)} />
      <span aria-live="polite">
        {at + 1}/{siblings.length}
      </span>
      <IconButton icon="right" label="Next version" disabled={busy || at === siblings.length - 1} onClick={() => turn(1)} />
    </div>
  );
}

function Speed({ stats: { tokens, firstTokenMs, tokensPerSecond } }: { readonly stats: NonNullable<Message["stats"]> }) {
  return (
    <span class="stats">
      {tokensPerSecond > 0 && `${tokensPerSecond.toFixed(1)} tokens/s · `}
      {tokens} {tokens === 1 ? "token" : "tokens"} · first after {(firstTokenMs / 1000).toFixed(2)} s
    </span>
  );
}
