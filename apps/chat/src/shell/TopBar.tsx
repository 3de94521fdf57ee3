/** The page's head: the sidebar's button, what is open, what answers, the inspector's button. */
import type { AppState } from "../appState.ts";
import type { Places } from "../places.ts";
import type { Screen } from "../viewState.ts";
import { IconButton } from "./IconButton.tsx";

interface TopBarProps {
  readonly app: AppState;
  readonly places: Places;
}

const TITLES: Partial<Record<Screen, string>> = { models: "Models", swarm: "Swarm" };

export function TopBar({ app, places }: TopBarProps) {
  const { chat, view } = app;
  const { backendName: BackendName, inspector } = places;
  return (
    <header class="top-bar">
      <IconButton
        icon="panel"
        label="Menu"
        class={view.sidebarHidden.value ? "" : "narrow-only"}
        aria-expanded={view.sidebarOpen.value}
        aria-controls="side"
        onClick={() => view.revealSidebar()}
      />
      <strong class="top-title">{TITLES[view.screen.value] ?? chat.open.value?.title ?? ""}</strong>
      {BackendName && <BackendName app={app} />}
      {inspector && (
        <IconButton
          icon="pulse"
          label="See the model work"
          aria-pressed={view.inspectorOpen.value}
          aria-controls={view.inspectorOpen.value ? "inspector" : undefined}
          onClick={() => (view.inspectorOpen.value = !view.inspectorOpen.value)}
        />
      )}
    </header>
  );
}
