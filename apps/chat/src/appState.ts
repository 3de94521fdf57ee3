import type { BackendState } from "./backends/backendState.ts";
import type { ChatState } from "./chat/chatState.ts";
import type { TextWorker } from "./markdown/textWorker.ts";
import type { Turns } from "./markdown/turns.ts";
import type { ModelState } from "./modelState.ts";
import type { SwarmState } from "./swarm/swarmState.ts";
import type { ViewState } from "./viewState.ts";

/** All that the page's parts share. */
export interface AppState {
  readonly backends: BackendState;
  readonly chat: ChatState;
  readonly model: ModelState;
  readonly swarm: SwarmState;
  readonly view: ViewState;
  readonly texts: TextWorker;
  readonly turns: Turns;
}
