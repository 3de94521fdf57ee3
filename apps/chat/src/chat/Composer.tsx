/** Where a person writes. Enter sends, once an answer that is being written has ended; Shift+Enter breaks the line, Escape stops the answer, Arrow up in an empty field edits the last question. */
import { useLayoutEffect, useRef } from "preact/hooks";
import { isField } from "../shell/fields.ts";
import { Icon } from "../shell/Icon.tsx";
import type { ChatState } from "./chatState.ts";

export const COMPOSER_ID = "message";

/** On a touch screen the keyboard would cover the conversation. */
export function focusComposer(): void {
  if (matchMedia("(pointer: fine)").matches) document.getElementById(COMPOSER_ID)?.focus();
}

export function Composer({ chat }: { readonly chat: ChatState }) {
  const field = useRef<HTMLTextAreaElement>(null);
  const writing = chat.writing.value;
  const answers = chat.backend.value !== null;
  useLayoutEffect(() => {
    // Who writes elsewhere goes on there.
    if (!isField(document.activeElement)) focusComposer();
  }, [chat.openId.value]);
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      void chat.send();
    } else if (event.key === "ArrowUp" && chat.draft.value === "" && !writing) {
      const last = chat.path.value.findLast(({ role }) => role === "user");
      if (!last) return;
      event.preventDefault();
      chat.editing.value = last.id;
    }
  };
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        void chat.send();
        field.current?.focus();
      }}
    >
      {writing && writing.conversationId !== chat.openId.value && (
        <p class="elsewhere">
          An answer is being written in another conversation.{" "}
          <button type="button" class="link" onClick={() => chat.show(writing.conversationId)}>
            Show it
          </button>
        </p>
      )}
      <p class="waits" role="status">
        {chat.waits.value && "Sent as soon as the answer is complete."}
      </p>
      <div class="field">
        <textarea
          ref={field}
          id={COMPOSER_ID}
          rows={1}
          aria-label="Message"
          placeholder={answers ? "Ask something…" : "Nothing answers yet"}
          value={chat.draft.value}
          onInput={({ currentTarget }) => chat.write(currentTarget.value)}
          onKeyDown={onKeyDown}
        />
        {writing ? (
          <button type="button" class="send primary" aria-label="Stop" title="Stop (Escape)" onClick={() => chat.stop()}>
            <Icon name="stop" />
          </button>
        ) : (
          <button
            type="submit"
            class="send primary"
            aria-label="Send"
            title="Send (Enter)"
            disabled={!answers || chat.draft.value.trim() === ""}
          >
            <Icon name="send" />
          </button>
        )}
      </div>
      <p class="fine-print">Models make mistakes. Check what matters.</p>
    </form>
  );
}
