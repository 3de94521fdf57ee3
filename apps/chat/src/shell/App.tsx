/** The page's frame: sidebar, head, the screen in the middle, the inspector. What fills it is named in `places.ts`. */
import { useSignalEffect } from "@preact/signals";
import type { AppState } from "../appState.ts";
import { Composer } from "../chat/Composer.tsx";
import { Messages } from "../chat/Messages.tsx";
import { Sidebar } from "../conversations/Sidebar.tsx";
import type { Places } from "../places.ts";
import { SettingsPanel } from "../settings/SettingsPanel.tsx";
import { Dialog } from "./Dialog.tsx";
import { IconButton } from "./IconButton.tsx";
import { TopBar } from "./TopBar.tsx";

interface AppProps {
  readonly app: AppState;
  readonly places: Places;
}

export function App({ app, places }: AppProps) {
  const { chat, view } = app;
  useSignalEffect(() => {
    document.documentElement.dataset["theme"] = chat.settings.value.theme;
  });
  const { models: Models, inspector: Inspector } = places;
  return (
    <div class={`app${view.sidebarOpen.value ? " sidebar-open" : ""}${view.sidebarHidden.value ? " sidebar-hidden" : ""}`}>
      <Sidebar app={app} places={places} />
      {view.sidebarOpen.value && <div class="scrim" onClick={() => (view.sidebarOpen.value = false)} />}
      <div class="page">
        <TopBar app={app} places={places} />
        <main>{view.screen.value === "models" && Models ? <Models app={app} /> : <ChatScreen app={app} places={places} />}</main>
      </div>
      {Inspector && view.inspectorOpen.value && (
        <aside id="inspector" class="inspector" aria-label="The model at work">
          <IconButton icon="close" label="Close" class="inspector-close" onClick={() => (view.inspectorOpen.value = false)} />
          <Inspector app={app} />
        </aside>
      )}
      {view.settingsOpen.value && (
        <Dialog title="Settings" onClose={() => (view.settingsOpen.value = false)}>
          <SettingsPanel app={app} places={places} />
        </Dialog>
      )}
    </div>
  );
}

function ChatScreen({ app, places: { firstMinute: FirstMinute } }: AppProps) {
  const { chat } = app;
  const answers = chat.backend.value !== null;
  return (
    <>
      {answers || chat.open.value ? <Messages chat={chat} /> : <FirstMinute app={app} />}
      {chat.notice.value !== null && (
        <p class="notice" role="alert">
          {chat.notice.value}
          <IconButton icon="close" label="Close" onClick={() => (chat.notice.value = null)} />
        </p>
      )}
      {answers && <Composer chat={chat} />}
    </>
  );
}
