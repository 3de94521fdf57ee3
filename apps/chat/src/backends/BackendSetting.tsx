/** What answers, as a section of the settings. */
import { useSignal } from "@preact/signals";
import type { AppState } from "../appState.ts";
import { type ServerChoice, serverModels } from "./backendState.ts";

const EXAMPLE = "http://localhost:8080/v1";

/** As browsers have it for pages that came over https, and the page's own policy for all. */
function isReachable({ protocol, hostname, origin }: URL): boolean {
  return protocol === "https:" || hostname === "localhost" || hostname === "127.0.0.1" || origin === location.origin;
}

export function BackendSetting({ app }: { readonly app: AppState }) {
  const { backends } = app;
  const choice = backends.choice.value;
  const server = useSignal<ServerChoice>(choice.kind === "server" ? choice : { kind: "server", url: "", key: "", model: "" });
  const wantsServer = useSignal(choice.kind === "server");
  const offered = useSignal<readonly string[]>([]);
  const status = useSignal<string | null>(null);
  const busy = useSignal(false);
  const change = (more: Partial<ServerChoice>): void => void (server.value = { ...server.value, ...more });
  const connect = async (): Promise<void> => {
    busy.value = true;
    status.value = "Asking the server…";
    try {
      const url = server.value.url.trim();
      if (!/^https?:\/\//i.test(url) || !URL.canParse(url))
        throw new TypeError(`Cannot use '${url}': expected an address such as ${EXAMPLE}`);
      if (!isReachable(new URL(url)))
        throw new TypeError(`Cannot use '${url}': pages may reach other machines over https alone, expected https, or this machine`);
      const models = await serverModels({ ...server.value, url });
      offered.value = models;
      const model = server.value.model !== "" ? server.value.model : (models[0] ?? "");
      change({ url, model });
      await backends.useServer({ ...server.value, url, model });
      status.value = `Connected: ${model === "" ? "the server's own model" : model} answers.`;
    } catch (error) {
      status.value = error instanceof Error ? error.message : String(error);
    } finally {
      busy.value = false;
    }
  };
  return (
    <div class="backend">
      <fieldset>
        <legend class="hidden">What answers</legend>
        <label class="choice">
          <input
            type="radio"
            name="backend"
            checked={!wantsServer.value && choice.kind !== "swarm"}
            onChange={() => {
              wantsServer.value = false;
              status.value = null;
              void backends.useDevice();
            }}
          />
          This device
        </label>
        <label class="choice">
          <input type="radio" name="backend" checked={wantsServer.value} onChange={() => (wantsServer.value = true)} />
          An OpenAI-compatible server
        </label>
        {choice.kind === "swarm" && !wantsServer.value && <p class="quiet">A swarm answers now: its screen says more.</p>}
        {wantsServer.value && (
          <div class="server">
            <label>
              Address
              <input
                type="text"
                inputMode="url"
                placeholder={EXAMPLE}
                autocomplete="off"
                spellcheck={false}
                value={server.value.url}
                onInput={({ currentTarget }) => change({ url: currentTarget.value })}
              />
            </label>
            <label>
              Key, if it wants one
              <input
                type="password"
                autocomplete="off"
                value={server.value.key}
                onInput={({ currentTarget }) => change({ key: currentTarget.value })}
              />
            </label>
            <label>
              Model
              <input
                type="text"
                list="server-models"
                placeholder="the first that it offers"
                autocomplete="off"
                spellcheck={false}
                value={server.value.model}
                onInput={({ currentTarget }) => change({ model: currentTarget.value })}
              />
              <datalist id="server-models">
                {offered.value.map((id) => (
                  <option key={id} value={id} />
                ))}
              </datalist>
            </label>
            <p class="quiet">
              What you write goes to that server, and with it your key. Both are kept in this browser only. It must allow this page's origin
              (CORS): shoal serve --cors {location.origin}
            </p>
            <button type="button" class="primary" disabled={busy.value || server.value.url.trim() === ""} onClick={() => void connect()}>
              Connect
            </button>
          </div>
        )}
        {status.value !== null && <p role="status">{status.value}</p>}
      </fieldset>
    </div>
  );
}
