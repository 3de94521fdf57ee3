/** Keys that work everywhere on the page. */
import type { AppState } from "../appState.ts";
import { COMPOSER_ID } from "../chat/Composer.tsx";
import { SEARCH_ID } from "../conversations/ConversationList.tsx";
import { isField } from "./fields.ts";

export const SHORTCUTS = [
  ["Ctrl K", "Search conversations"],
  ["Ctrl Shift O", "New conversation"],
  ["Ctrl B", "Show or hide the sidebar"],
  ["Ctrl ,", "Settings"],
  ["Ctrl /", "These keys"],
  ["/", "Write a message"],
  ["Enter", "Send"],
  ["Shift Enter", "New line"],
  ["↑", "In an empty field: edit your last message"],
  ["Escape", "Stop the answer; leave a menu, a dialog, an edit"],
  ["F2, Delete", "On a conversation in the list: rename, delete"],
] as const;

/** @returns what ends it */
export function listenForShortcuts(app: AppState): () => void {
  const controller = new AbortController();
  addEventListener("keydown", (event) => onKey(app, event), { signal: controller.signal });
  return () => controller.abort();
}

function onKey({ chat, view }: AppState, event: KeyboardEvent): void {
  if (event.defaultPrevented || event.altKey || event.isComposing) return;
  const isModal = document.querySelector("dialog[open]") !== null;
  const does = (run: () => void): void => {
    event.preventDefault();
    run();
  };
  if (event.ctrlKey || event.metaKey) {
    const key = `${event.shiftKey ? "shift " : ""}${event.key.toLowerCase()}`;
    if (isModal) return;
    if (key === "k") {
      does(() => {
        view.revealSidebar();
        view.focusing.value = SEARCH_ID;
      });
    } else if (key === "shift o") {
      does(() => {
        chat.show(null);
        view.show("chat");
        view.focusing.value = COMPOSER_ID;
      });
    } else if (key === "b") does(() => view.toggleSidebar());
    else if (key === ",") does(() => view.openSettings());
    else if (key === "/") does(() => (view.shortcutsOpen.value = true));
    return;
  }
  if (event.key === "Escape") {
    if (isModal || document.querySelector(":popover-open") !== null) return;
    if (view.sidebarOpen.value) view.sidebarOpen.value = false;
    else if (chat.writing.value) chat.stop();
  } else if (event.key === "/" && !isModal && !isField(event.target)) does(() => (view.focusing.value = COMPOSER_ID));
}
