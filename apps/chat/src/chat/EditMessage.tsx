/** A question in another wording. The old one and its answers stay, one branch beside. */
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { Message } from "../conversations/tree.ts";
import type { ChatState } from "./chatState.ts";

interface EditMessageProps {
  readonly chat: ChatState;
  readonly message: Message;
}

export function EditMessage({ chat, message }: EditMessageProps) {
  const field = useRef<HTMLTextAreaElement>(null);
  const text = useSignal(message.content);
  useEffect(() => {
    field.current?.focus();
    field.current?.setSelectionRange(message.content.length, message.content.length);
  }, [message]);
  const leave = (): void => {
    chat.editing.value = null;
    // The button comes back with the next rendering.
    requestAnimationFrame(() => document.querySelector<HTMLElement>(`[data-edit="${CSS.escape(message.id)}"]`)?.focus());
  };
  const send = (): void => void chat.resend(message.id, text.value);
  return (
    <form
      class="edit"
      aria-label="Edit your message"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <textarea
        ref={field}
        rows={3}
        aria-label="Your message"
        value={text.value}
        onInput={({ currentTarget }) => (text.value = currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") {
            event.stopPropagation();
            leave();
          } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
            event.preventDefault();
            send();
          }
        }}
      />
      <div class="buttons">
        <button type="button" onClick={leave}>
          Cancel
        </button>
        <button type="submit" class="primary" disabled={text.value.trim() === "" || chat.backend.value === null}>
          Send as a new branch
        </button>
      </div>
    </form>
  );
}
