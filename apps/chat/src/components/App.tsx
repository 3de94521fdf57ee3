import { useSignal, useSignalEffect } from "@preact/signals";
import type { ChatState } from "../chatState.ts";
import type { ModelState } from "../modelState.ts";
import { Composer } from "./Composer.tsx";
import { FirstMinute } from "./FirstMinute.tsx";
import { Messages } from "./Messages.tsx";
import { SettingsPanel } from "./SettingsPanel.tsx";
import { Sidebar } from "./Sidebar.tsx";

interface AppProps {
  readonly model: ModelState;
  readonly chat: ChatState;
}

export function App({ model, chat }: AppProps) {
  const menu = useSignal(false);
  useSignalEffect(() => {
    document.documentElement.dataset["theme"] = chat.settings.value.theme;
  });
  // On a phone the menu lies over the conversation: choosing one closes it.
  useSignalEffect(() => {
    if (chat.openId.value !== undefined) menu.value = false;
  });
  const ready = model.phase.value.name === "ready";
  return (
    <div class={menu.value ? "app menu-open" : "app"}>
      <header>
        {ready && (
          <button type="button" class="menu" aria-expanded={menu.value} aria-controls="side" onClick={() => (menu.value = !menu.value)}>
            Menu
          </button>
        )}
        <strong>Shoal</strong>
        <span>{ready ? `on ${model.check.value?.adapter ?? "your GPU"}` : ""}</span>
      </header>
      {ready && (
        <div id="side" class="side">
          <Sidebar chat={chat} />
          <SettingsPanel chat={chat} />
        </div>
      )}
      <main>
        {ready ? <Messages chat={chat} /> : <FirstMinute model={model} />}
        {chat.notice.value !== null && (
          <p class="notice" role="alert">
            {chat.notice.value}{" "}
            <button type="button" onClick={() => (chat.notice.value = null)}>
              Close
            </button>
          </p>
        )}
        {ready && <Composer chat={chat} />}
      </main>
    </div>
  );
}
