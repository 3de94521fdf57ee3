/** The conversations that were found, by when they were last spoken in. Each is a button, with a menu of what else can be done. */
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { AppState } from "../appState.ts";
import { MenuButton } from "../shell/MenuButton.tsx";
import { saveFile } from "../shell/saveFile.ts";
import { toJson, toMarkdown } from "./files.ts";
import type { Conversation } from "./tree.ts";

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
  const renaming = useSignal(false);
  const isWriting = chat.writing.value?.conversationId === id;
  const isOpen = chat.openId.value === id && view.screen.value === "chat";
  if (renaming.value)
    return (
      <li>
        <Rename
          title={title}
          onEnd={(wanted) => {
            if (wanted !== null) chat.rename(id, wanted);
            renaming.value = false;
            requestAnimationFrame(() => document.getElementById(`open-${id}`)?.focus());
          }}
        />
      </li>
    );
  return (
    <li class={isOpen ? "current" : ""}>
      <button
        type="button"
        id={`open-${id}`}
        class="open"
        title={title}
        aria-current={isOpen ? "page" : undefined}
        onClick={() => {
          chat.show(id);
          view.show("chat");
        }}
        onKeyDown={({ key }) => {
          if (key === "F2") renaming.value = true;
          if (key === "Delete") chat.remove(id);
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
          { name: "Delete", icon: "trash", danger: true, run: () => chat.remove(id) },
        ]}
      />
    </li>
  );
}

interface RenameProps {
  readonly title: string;
  /** Null: as it was. */
  readonly onEnd: (title: string | null) => void;
}

function Rename({ title, onEnd }: RenameProps) {
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.select(), []);
  return (
    <input
      ref={field}
      class="rename"
      aria-label="Title"
      defaultValue={title}
      maxLength={200}
      onBlur={({ currentTarget }) => onEnd(currentTarget.value)}
      onKeyDown={(event) => {
        if (event.key === "Enter") onEnd(event.currentTarget.value);
        else if (event.key === "Escape") {
          event.stopPropagation();
          onEnd(null);
        }
      }}
    />
  );
}
