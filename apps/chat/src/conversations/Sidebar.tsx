/** Beside the conversation: new ones, earlier ones, and the way to models and settings. Over it on narrow windows. */
import { useLayoutEffect, useRef } from "preact/hooks";
import type { AppState } from "../appState.ts";
import type { Places } from "../places.ts";
import { Icon } from "../shell/Icon.tsx";
import { IconButton } from "../shell/IconButton.tsx";
import { Logo } from "../shell/Logo.tsx";
import { ConversationList, SEARCH_ID } from "./ConversationList.tsx";

interface SidebarProps {
  readonly app: AppState;
  readonly places: Places;
}

export function Sidebar({ app, places }: SidebarProps) {
  const { chat, view } = app;
  const sidebar = useRef<HTMLElement>(null);
  const isOver = view.sidebarOpen.value;
  useLayoutEffect(() => {
    if (!isOver) return;
    sidebar.current?.querySelector<HTMLElement>("button.new")?.focus();
    return () => {
      if (view.sidebarOpener instanceof HTMLElement) view.sidebarOpener.focus();
    };
  }, [isOver, view]);
  return (
    <nav ref={sidebar} id="side" class="sidebar" aria-label="Conversations">
      <div class="brand">
        <Logo />
        <strong>Shoal</strong>
        <IconButton icon="panel" label="Hide the sidebar" class="wide-only" onClick={() => (view.sidebarHidden.value = true)} />
        <IconButton icon="close" label="Close menu" class="narrow-only" onClick={() => (view.sidebarOpen.value = false)} />
      </div>
      <button
        type="button"
        class="row new"
        onClick={() => {
          chat.show(null);
          view.show("chat");
        }}
      >
        <Icon name="compose" /> New conversation
      </button>
      <label class="search">
        <Icon name="search" />
        <input
          id={SEARCH_ID}
          type="search"
          aria-label="Search conversations"
          placeholder="Search"
          value={chat.words.value}
          onInput={({ currentTarget }) => (chat.words.value = currentTarget.value)}
        />
      </label>
      <ConversationList app={app} />
      <div class="foot">
        {places.models && (
          <button
            type="button"
            class="row"
            aria-current={view.screen.value === "models" ? "page" : undefined}
            onClick={() => view.show("models")}
          >
            <Icon name="chip" /> Models
          </button>
        )}
        {places.swarm && (
          <button
            type="button"
            class="row"
            aria-current={view.screen.value === "swarm" ? "page" : undefined}
            onClick={() => view.show("swarm")}
          >
            <Icon name="swarm" /> Swarm
          </button>
        )}
        <button type="button" class="row" onClick={() => view.openSettings()}>
          <Icon name="settings" /> Settings
        </button>
      </div>
    </nav>
  );
}
