/** What answers, in the page's head: this device's model, or whose server. */
import { sourceName } from "@shoal/web";
import type { AppState } from "../appState.ts";
import { isEmbedded } from "../modelState.ts";

export function BackendName({ app }: { readonly app: AppState }) {
  const { backends, model, view } = app;
  const choice = backends.choice.value;
  if (choice.kind === "server") {
    const { host } = new URL(choice.url);
    return (
      <button type="button" class="backend-name" title={`Answers come from ${host}`} onClick={() => (view.settingsOpen.value = true)}>
        {choice.model === "" ? host : `${choice.model} at ${host}`}
      </button>
    );
  }
  if (choice.kind === "swarm") {
    const { value: phase } = app.swarm.phase;
    const name = phase.name === "in" ? `${phase.swarm.facts.model} over a swarm` : "a swarm";
    return (
      <button type="button" class="backend-name" title="Answers come from peers, who can see them" onClick={() => view.show("swarm")}>
        {name}
      </button>
    );
  }
  if (model.phase.value.name !== "ready") return null;
  const source = model.source.value;
  const name = isEmbedded(source) ? "" : `${sourceName(source)} `;
  return (
    <button type="button" class="backend-name" title="Models of this device" onClick={() => view.show("models")}>
      {name}on {model.check.value?.adapter ?? "your GPU"}
    </button>
  );
}
