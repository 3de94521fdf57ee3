import { signal } from "@preact/signals";
import { render } from "preact";
import type { AppState } from "./appState.ts";
import { injectedBackend } from "./backend.ts";
import { BackendState } from "./backends/backendState.ts";
import { ChatState } from "./chat/chatState.ts";
import { TextWorker } from "./markdown/textWorker.ts";
import { Turns } from "./markdown/turns.ts";
import { ModelState } from "./modelState.ts";
import { PLACES } from "./places.ts";
import { firstTheme } from "./settings/saved.ts";
import { SwarmState, takeInviteFromAddress } from "./swarm/swarmState.ts";
import { App } from "./shell/App.tsx";
import { lookUpTypefaces } from "./shell/typefaces.ts";
import { allowOwnScripts } from "./trustedTypes.ts";
import { ViewState } from "./viewState.ts";
import "./styles/all.css";

allowOwnScripts();
const model = new ModelState();
const injected = injectedBackend();
const swarm = new SwarmState();
const backends = new BackendState(model, swarm);
const backend = injected ? signal(injected) : backends.backend;
const app: AppState = {
  model,
  swarm,
  backends,
  chat: new ChatState(backend),
  view: new ViewState(),
  texts: new TextWorker(),
  turns: new Turns(),
};
app.chat.settings.value = { ...app.chat.settings.value, theme: firstTheme() };
const invite = takeInviteFromAddress();
if (invite !== null) {
  swarm.invite.value = invite;
  app.view.show("swarm");
}
const root = document.querySelector("#app");
if (root) render(<App app={app} places={PLACES} />, root);
lookUpTypefaces();
// Without it the page works as well, with network.
if (import.meta.env.PROD) navigator.serviceWorker?.register("./sw.js").catch(() => {});
await app.chat.restore();
// Who comes with an invite decides first what is to answer.
if (!injected && invite === null) await backends.start();
