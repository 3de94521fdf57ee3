/** The conversations that were found, by when they were last spoken in. Each is a button, with a menu of what else can be done. */
import { useSignal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import type { AppState } from "../appState.ts";
import { MenuButton } from "../shell/MenuButton.tsx";
import { saveFile } from "../shell/saveFile.ts";
import { toJson, toMarkdown } from "./files.ts";
import type { Conversation } from "./tree.ts";

/** Of the field that finds them. */
export const SEARCH_ID = "search";

export function ConversationList({ app }: { readonly app: AppState }) {
  const { chat } = app;
  const groups = chat.groups.value;
  if (groups.length === 0)
    return (
      <p class="empty quiet">
        {chat.words.value.trim() === "" ? "Conversations will be listed here." : "No conversation has these words."}
      </p>
    );
  return (
    <div class="conversations">
      {groups.map(({ name, conversations }) => (
        <section key={name} aria-label={name}>
          <h2>{name}</h2>
          <ul>
            {conversations.map((conversation) => (
              <ConversationRow key={conversation.id} app={app} conversation={conversation} />
            ))}
          </ul>
        </section>
      ))}
    </div>
  );
}

interface ConversationRowProps {
  readonly app: AppState;
  readonly conversation: Conversation;
}

function ConversationRow({ app: { chat, view }, conversation }: ConversationRowProps) {
  const { id, title } = conversation;
  const button = useRef<HTMLButtonElement>(null);
  const renaming = useSignal(false);
  const isRenaming = renaming.value;
  /** Whether the row gets the focus as it comes back. */
  const returns = useRef(false);
  useLayoutEffect(() => {
    if (isRenaming || !returns.current) return;
    returns.current = false;
    button.current?.focus();
  }, [isRenaming]);
  const remove = (): void => {
    const next = beside(button.current);
    chat.remove(id);
    next?.focus();
  };
  const isWriting = chat.writing.value?.conversationId === id;
  const isOpen = chat.openId.value === id && view.screen.value === "chat";
  if (isRenaming)
    return (
      <li>
        <Rename
          title={title}
          onEnd={(wanted, byKey) => {
            if (wanted !== null) chat.rename(id, wanted);
            returns.current = byKey;
            renaming.value = false;
          }}
        />
      </li>
    );
  return (
    <li class={isOpen ? "current" : ""}>
      <button
        ref={button}
        type="button"
        class="open"
        title={title}
        aria-current={isOpen ? "page" : undefined}
        onClick={() => {
          chat.show(id);
          view.show("chat");
        }}
        onKeyDown={({ key }) => {
          if (key === "F2") renaming.value = true;
          if (key === "Delete") remove();
        }}
      >
        <span>{title}</span>
        {isWriting && <i class="writing" role="img" aria-label="An answer is being written" />}
      </button>
      <MenuButton
        icon="more"
        label={`More of “${title}”`}
        items={[
          { name: "Rename", icon: "edit", run: () => (renaming.value = true) },
          { name: "Save as Markdown", icon: "download", run: () => saveFile(`${title}.md`, "text/markdown", toMarkdown(conversation)) },
          { name: "Export as JSON", icon: "download", run: () => saveFile(`${title}.json`, "application/json", toJson([conversation])) },
          { name: "Delete", icon: "trash", danger: true, run: remove },
        ]}
      />
    </li>
  );
}

/** What has the focus once this row is gone: the next one, the last one, or the field that found them. */
function beside(button: HTMLElement | null): HTMLElement | null {
  const all = [...document.querySelectorAll<HTMLElement>(".conversations .open")];
  const at = all.findIndex((other) => other === button);
  return all[at + 1] ?? all[at - 1] ?? document.getElementById(SEARCH_ID);
}

interface RenameProps {
  readonly title: string;
  /** Once. Without a title it stays as it was; ended by a key, the focus has no other place yet. */
  readonly onEnd: (title: string | null, byKey: boolean) => void;
}

function Rename({ title, onEnd }: RenameProps) {
  const field = useRef<HTMLInputElement>(null);
  const ended = useRef(false);
  const end = (wanted: string | null, byKey: boolean): void => {
    // A field that goes loses the focus, which is an end as well.
    if (ended.current) return;
    ended.current = true;
    onEnd(wanted, byKey);
  };
  useLayoutEffect(() => {
    field.current?.focus();
    field.current?.select();
  }, []);
  return (
    <input
      ref={field}
      class="rename"
      aria-label="Title"
      defaultValue={title}
      maxLength={200}
      onBlur={({ currentTarget }) => end(currentTarget.value, false)}
      onKeyDown={(event) => {
        if (event.key === "Enter" && !event.isComposing) {
          // It is not meant for what has the focus next.
          event.preventDefault();
          end(event.currentTarget.value, true);
        } else if (event.key === "Escape") {
          event.stopPropagation();
          end(null, true);
        }
      }}
    />
  );
}
