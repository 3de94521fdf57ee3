/** Where a person writes. Enter sends, Shift+Enter breaks the line, Escape stops the answer or leaves editing. */
import { useEffect, useRef } from "preact/hooks";
import type { ChatState } from "./chatState.ts";

export function Composer({ chat }: { readonly chat: ChatState }) {
  const field = useRef<HTMLTextAreaElement>(null);
  const editing = chat.editing.value !== null;
  const writing = chat.writing.value !== null;
  useEffect(() => field.current?.focus(), [chat.openId.value, editing]);
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      void chat.send();
    } else if (event.key === "Escape") {
      if (writing) chat.stop();
      else if (editing) chat.cancelEdit();
    }
  };
  const onSubmit = (event: Event): void => {
    event.preventDefault();
    void chat.send();
  };
  return (
    <form class="composer" onSubmit={onSubmit}>
      {editing && (
        <p>
          Sending replaces this message and all that follows.{" "}
          <button type="button" onClick={() => chat.cancelEdit()}>
            Keep it
          </button>
        </p>
      )}
      <div>
        <textarea
          ref={field}
          rows={2}
          aria-label="Message"
          placeholder="Ask something…"
          value={chat.draft.value}
          onInput={({ currentTarget }) => (chat.draft.value = currentTarget.value)}
          onKeyDown={onKeyDown}
        />
        {writing ? (
          <button type="button" class="primary" onClick={() => chat.stop()}>
            Stop
          </button>
        ) : (
          <button type="submit" class="primary" disabled={chat.draft.value.trim() === ""}>
            Send
          </button>
        )}
      </div>
    </form>
  );
}
