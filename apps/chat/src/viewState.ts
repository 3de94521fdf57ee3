/** What of the page is to be seen. Nothing here lasts beyond a visit. */
import { signal } from "@preact/signals";

export type Screen = "chat" | "models";

export class ViewState {
  readonly screen = signal<Screen>("chat");
  /** On wide windows the sidebar is there unless hidden; on narrow ones it lies over the page while open. */
  readonly sidebarHidden = signal(false);
  readonly sidebarOpen = signal(false);
  readonly inspectorOpen = signal(false);
  readonly settingsOpen = signal(false);

  show(screen: Screen): void {
    this.screen.value = screen;
    this.sidebarOpen.value = false;
  }
}
