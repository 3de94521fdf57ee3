/**
 * What answers: the model on this device, or an OpenAI-compatible server. Whatever comes next, a swarm say, is another kind of `BackendChoice` and a `ChatBackend` (of
 * `@shoal/web`) made of it in `#made`; the chat and the inspector ask for nothing more.
 */
import { type ReadonlySignal, computed, signal } from "@preact/signals";
import { type ChatBackend, type ModelSource, createClient } from "@shoal/web";
import { get, set } from "idb-keyval";
import type { ModelState } from "../modelState.ts";

export interface ServerChoice {
  readonly kind: "server";
  /** With the version: `http://localhost:8080/v1`. */
  readonly url: string;
  /** Kept in this browser alone. */
  readonly key: string;
  /** Empty: whatever the server takes for its own. */
  readonly model: string;
}

export type BackendChoice = { readonly kind: "device" } | ServerChoice;

const KEY = "backend";
const MAX_LENGTH = 2048;

export class BackendState {
  readonly choice = signal<BackendChoice>({ kind: "device" });
  readonly backend: ReadonlySignal<ChatBackend | null>;
  readonly #model: ModelState;

  constructor(model: ModelState) {
    this.#model = model;
    const server = computed(() => (this.choice.value.kind === "server" ? serverBackend(this.choice.value) : null));
    this.backend = computed(() => server.value ?? (this.choice.value.kind === "device" ? (model.engine ?? null) : null));
  }

  /** As it was on the last visit. A GPU is not looked at while a server answers. */
  async start(): Promise<void> {
    this.choice.value = (await savedChoice()) ?? { kind: "device" };
    if (this.choice.value.kind === "device") await this.#model.start();
  }

  async useDevice(source?: ModelSource): Promise<void> {
    this.choice.value = { kind: "device" };
    await this.#save();
    if (source) await this.#model.choose(source);
    else if (this.#model.phase.value.name === "idle") await this.#model.start();
  }

  /** Frees this device's GPU. @throws ApiRequestError where the server does not answer; nothing has changed then */
  async useServer(choice: ServerChoice): Promise<void> {
    await serverBackend(choice).models.list({ signal: AbortSignal.timeout(15_000) });
    this.choice.value = choice;
    this.#model.unload();
    await this.#save();
  }

  async #save(): Promise<void> {
    await set(KEY, this.choice.value).catch(() => {});
  }
}

/** The models that a server offers. @throws ApiRequestError, TypeError for an address that is none */
export async function serverModels(choice: ServerChoice): Promise<readonly string[]> {
  return (await serverBackend(choice).models.list({ signal: AbortSignal.timeout(15_000) })).map(({ id }) => id);
}

function serverBackend({ url, key, model }: ServerChoice): ChatBackend {
  return createClient({ baseUrl: url, apiKey: key, ...(model !== "" && { model }) });
}

async function savedChoice(): Promise<BackendChoice | null> {
  const saved: unknown = await get(KEY).catch(() => null);
  if (typeof saved !== "object" || saved === null) return null;
  const { kind, url, key, model } = saved as Readonly<Record<string, unknown>>;
  const isText = (value: unknown): value is string => typeof value === "string" && value.length <= MAX_LENGTH;
  if (kind !== "server" || !isText(url) || !isText(key) || !isText(model) || !URL.canParse(url)) return null;
  return { kind, url, key, model };
}
