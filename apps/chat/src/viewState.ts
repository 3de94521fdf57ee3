/** What of the page is to be seen. Nothing here lasts beyond a visit. */
import { signal } from "@preact/signals";

export type Screen = "chat" | "models" | "swarm";

export class ViewState {
  readonly screen = signal<Screen>("chat");
  /** On wide windows the sidebar is there unless hidden; on narrow ones it lies over the page while open. */
  readonly sidebarHidden = signal(false);
  readonly sidebarOpen = signal(false);
  readonly inspectorOpen = signal(false);
  sidebarOpener: Element | null = null;
  readonly settingsOpen = signal(false);
  readonly shortcutsOpen = signal(false);
  /** The id of what gets the focus with the next rendering, which may be the one that brings it. */
  readonly focusing = signal<string | null>(null);

  show(screen: Screen): void {
    this.screen.value = screen;
    this.sidebarOpen.value = false;
  }

  openSettings(): void {
    this.sidebarOpen.value = false;
    this.settingsOpen.value = true;
  }

  revealSidebar(): void {
    if (isNarrow()) this.#openSidebar();
    else this.sidebarHidden.value = false;
  }

  toggleSidebar(): void {
    if (!isNarrow()) this.sidebarHidden.value = !this.sidebarHidden.value;
    else if (this.sidebarOpen.value) this.sidebarOpen.value = false;
    else this.#openSidebar();
  }

  /** The rest of the page cannot have the focus while the sidebar lies over it: where it was is remembered before. */
  #openSidebar(): void {
    this.sidebarOpener = document.activeElement;
    this.sidebarOpen.value = true;
  }
}

/** As in `styles/shell.css`. */
function isNarrow(): boolean {
  return matchMedia("(max-width: 45rem)").matches;
}
