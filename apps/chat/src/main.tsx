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
import { App } from "./shell/App.tsx";
import { allowOwnScripts } from "./trustedTypes.ts";
import { ViewState } from "./viewState.ts";
import "./styles/all.css";

allowOwnScripts();
const model = new ModelState();
const injected = injectedBackend();
const backends = new BackendState(model);
const backend = injected ? signal(injected) : backends.backend;
const app: AppState = { model, backends, chat: new ChatState(backend), view: new ViewState(), texts: new TextWorker(), turns: new Turns() };
app.chat.settings.value = { ...app.chat.settings.value, theme: firstTheme() };
const root = document.querySelector("#app");
if (root) render(<App app={app} places={PLACES} />, root);
// Without it the page works as well, with network.
if (import.meta.env.PROD) navigator.serviceWorker?.register("./sw.js").catch(() => {});
await app.chat.restore();
if (!injected) await backends.start();
