/**
 * Parts of the page that the shell leaves room for. A part that is absent leaves no trace: no button, no heading. Heavy ones come by `lazy`.
 */
import type { ComponentType } from "preact";
import type { AppState } from "./appState.ts";
import { BackendName } from "./backends/BackendName.tsx";
import { BackendSetting } from "./backends/BackendSetting.tsx";
import { FirstMinute } from "./components/FirstMinute.tsx";
import { lazy } from "./shell/lazy.tsx";

export type Place = ComponentType<{ readonly app: AppState }>;

export interface Places {
  /** In place of an empty conversation as long as nothing answers. */
  readonly firstMinute: Place;
  /** At the left of the page's head: what answers, in a few words. Perhaps a button. */
  readonly backendName?: Place;
  /** A screen beside the chat, reached from the sidebar: models of this device, their size, others to fetch. */
  readonly models?: Place;
  /** Another one: a swarm, its peers, what this device gives. */
  readonly swarm?: Place;
  /** A panel beside the conversation, off at first: how the model works. */
  readonly inspector?: Place;
  /** A section of the settings: what answers. */
  readonly backend?: Place;
}

export const PLACES: Places = {
  firstMinute: FirstMinute,
  backendName: BackendName,
  backend: BackendSetting,
  inspector: lazy(() => import("./inspector/Inspector.tsx").then(({ Inspector }) => Inspector)),
  swarm: lazy(() => import("./swarm/SwarmScreen.tsx").then(({ SwarmScreen }) => SwarmScreen)),
  models: lazy(() => import("./models/ModelsScreen.tsx").then(({ ModelsScreen }) => ModelsScreen)),
};
