import { render } from "preact";
import { ChatState } from "./chatState.ts";
import { App } from "./components/App.tsx";
import { ModelState } from "./modelState.ts";
import "./style.css";

const model = new ModelState();
const chat = new ChatState(model);
await chat.restore();
const root = document.querySelector("#app");
if (root) render(<App model={model} chat={chat} />, root);
// Without it the page works as well, with network.
if (import.meta.env.PROD) navigator.serviceWorker?.register("./sw.js").catch(() => {});
await model.start();
