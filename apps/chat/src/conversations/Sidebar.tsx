/** Conversations: find, open, name, delete, take out and bring in. */
import type { AppState } from "../appState.ts";
import type { ChatState } from "../chat/chatState.ts";
import type { Places } from "../places.ts";
import { IconButton } from "../shell/IconButton.tsx";
import { MAX_IMPORT_BYTES, titleOf, toJson, toMarkdown } from "./conversations.ts";

interface SidebarProps {
  readonly app: AppState;
  readonly places: Places;
}

export function Sidebar({ app: { chat, view }, places }: SidebarProps) {
  const open = chat.open.value;
  return (
    <nav id="side" class="sidebar" aria-label="Conversations">
      <div class="brand">
        <strong>Shoal</strong>
        <IconButton icon="close" label="Close menu" class="menu" onClick={() => (view.sidebarOpen.value = false)} />
      </div>
      <button
        type="button"
        class="primary"
        onClick={() => {
          view.show("chat");
          chat.show(null);
        }}
      >
        New conversation
      </button>
      <input
        type="search"
        aria-label="Search conversations"
        placeholder="Search"
        value={chat.words.value}
        onInput={({ currentTarget }) => (chat.words.value = currentTarget.value)}
      />
      <ul>
        {chat.found.value.map(({ id, title }) => (
          <li key={id}>
            <button
              type="button"
              aria-current={id === open?.id ? "true" : undefined}
              onClick={() => {
                view.show("chat");
                chat.show(id);
              }}
            >
              {title}
            </button>
          </li>
        ))}
      </ul>
      {open && (
        <div class="tools" role="group" aria-label="This conversation">
          <input aria-label="Title" value={open.title} onChange={({ currentTarget }) => chat.rename(open.id, currentTarget.value)} />
          <button type="button" onClick={() => save(`${titleOf(open.title)}.md`, "text/markdown", toMarkdown(open))}>
            Save as Markdown
          </button>
          <button
            type="button"
            onClick={() => {
              if (confirm(`Delete "${open.title}"?`)) chat.remove(open.id);
            }}
          >
            Delete
          </button>
        </div>
      )}
      <div class="tools" role="group" aria-label="All conversations">
        <button type="button" onClick={() => save("conversations.json", "application/json", toJson(chat.conversations.value))}>
          Export all
        </button>
        <label class="file">
          Import
          <input type="file" accept=".json,application/json" onChange={({ currentTarget }) => void bringIn(chat, currentTarget)} />
        </label>
      </div>
      <div class="tools">
        {places.models && (
          <button type="button" onClick={() => view.show("models")}>
            Models
          </button>
        )}
        <button type="button" onClick={() => (view.settingsOpen.value = true)}>
          Settings
        </button>
      </div>
    </nav>
  );
}

function save(name: string, type: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  URL.revokeObjectURL(url);
}

async function bringIn(chat: ChatState, input: HTMLInputElement): Promise<void> {
  const [file] = input.files ?? [];
  if (!file) return;
  if (file.size > MAX_IMPORT_BYTES)
    chat.notice.value = `Cannot import the file: it has ${file.size} bytes, expected at most ${MAX_IMPORT_BYTES}`;
  else chat.import(await file.text());
  // The same file may be chosen again.
  input.value = "";
}
