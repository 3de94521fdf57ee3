/** The page's frame: sidebar, head, the screen in the middle, the inspector. What fills it is named in `places.ts`. */
import { useSignalEffect } from "@preact/signals";
import { useLayoutEffect } from "preact/hooks";
import type { AppState } from "../appState.ts";
import type { ChatState } from "../chat/chatState.ts";
import { COMPOSER_ID, Composer } from "../chat/Composer.tsx";
import { Messages } from "../chat/Messages.tsx";
import { Sidebar } from "../conversations/Sidebar.tsx";
import { TextContext } from "../markdown/context.ts";
import type { Places } from "../places.ts";
import { SettingsPanel } from "../settings/SettingsPanel.tsx";
import { Dialog } from "./Dialog.tsx";
import { IconButton } from "./IconButton.tsx";
import { SHORTCUTS, listenForShortcuts } from "./shortcuts.ts";
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
  useSignalEffect(() => {
    document.title = chat.open.value ? `${chat.open.value.title} – Shoal` : "Shoal";
  });
  useLayoutEffect(() => listenForShortcuts(app), [app]);
  const focusing = view.focusing.value;
  useLayoutEffect(() => {
    if (focusing === null) return;
    document.getElementById(focusing)?.focus();
    view.focusing.value = null;
  }, [focusing, view]);
  const { inspector: Inspector } = places;
  const Screen = view.screen.value === "chat" ? undefined : places[view.screen.value];
  return (
    <TextContext.Provider value={app}>
      <div class={`app${view.sidebarOpen.value ? " sidebar-open" : ""}${view.sidebarHidden.value ? " sidebar-hidden" : ""}`}>
        <a class="skip" href={`#${COMPOSER_ID}`} onClick={skip}>
          To the message field
        </a>
        <Sidebar app={app} places={places} />
        {view.sidebarOpen.value && <div class="scrim" onClick={() => (view.sidebarOpen.value = false)} />}
        <div class="page" inert={view.sidebarOpen.value}>
          <TopBar app={app} places={places} />
          <main>{Screen ? <Screen app={app} /> : <ChatScreen app={app} places={places} />}</main>
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
        {view.shortcutsOpen.value && (
          <Dialog title="Keys" onClose={() => (view.shortcutsOpen.value = false)}>
            <dl class="keys">
              {SHORTCUTS.map(([keys, does]) => (
                <div key={keys}>
                  <dt>
                    {keys.split(" ").map((key) => (
                      <kbd key={key}>{key}</kbd>
                    ))}
                  </dt>
                  <dd>{does}</dd>
                </div>
              ))}
            </dl>
          </Dialog>
        )}
      </div>
    </TextContext.Provider>
  );
}

function skip(event: Event): void {
  event.preventDefault();
  document.getElementById(COMPOSER_ID)?.focus();
}

function ChatScreen({ app, places: { firstMinute: FirstMinute } }: AppProps) {
  const { chat } = app;
  const answers = chat.backend.value !== null;
  return (
    <>
      {answers || chat.open.value ? <Messages chat={chat} /> : <FirstMinute app={app} />}
      <NoticeLine chat={chat} />
      {!answers && chat.open.value && (
        <p class="no-answers">
          Nothing answers yet.{" "}
          <button type="button" class="link" onClick={() => chat.show(null)}>
            See what is missing
          </button>
        </p>
      )}
      {answers && <Composer chat={chat} />}
    </>
  );
}

/** Read out as soon as it is there: what has become of a wish. */
function NoticeLine({ chat }: { readonly chat: ChatState }) {
  const notice = chat.notice.value;
  return (
    <div role="status">
      {notice && (
        <div class="notice">
          <span>{notice.text}</span>
          {notice.action && (
            <button type="button" onClick={notice.action.run}>
              {notice.action.name}
            </button>
          )}
          <IconButton icon="close" label="Close" onClick={() => (chat.notice.value = null)} />
        </div>
      )}
    </div>
  );
}
