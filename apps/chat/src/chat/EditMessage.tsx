/** A question in another wording. The old one and its answers stay, one branch beside. */
import { useSignal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import type { Message } from "../conversations/tree.ts";
import type { ChatState } from "./chatState.ts";
import { focusComposer } from "./Composer.tsx";

interface EditMessageProps {
  readonly chat: ChatState;
  readonly message: Message;
  /** It stays as it was. */
  readonly onLeave: () => void;
}

export function EditMessage({ chat, message, onLeave }: EditMessageProps) {
  const field = useRef<HTMLTextAreaElement>(null);
  const text = useSignal(message.content);
  useLayoutEffect(() => {
    field.current?.focus();
    field.current?.setSelectionRange(message.content.length, message.content.length);
  }, []);
  const cannotSend = text.value.trim() === "" || chat.backend.value === null || chat.writing.value !== null;
  const send = (): void => {
    if (cannotSend) return;
    void chat.resend(message.id, text.value);
    focusComposer();
  };
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
            onLeave();
          } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
            event.preventDefault();
            send();
          }
        }}
      />
      <div class="buttons">
        <button type="button" onClick={onLeave}>
          Cancel
        </button>
        <button type="submit" class="primary" disabled={cannotSend}>
          Send as a new branch
        </button>
      </div>
    </form>
  );
}
