/** What answers: the model on this device, an OpenAI-compatible server, or a swarm. The chat and the inspector ask for nothing more than a `ChatBackend`. */
import { type ReadonlySignal, computed, signal } from "@preact/signals";
import { type ModelSource, createClient } from "@shoal/web";
import { get, set } from "idb-keyval";
import type { ChatBackend } from "../backend.ts";
import type { ModelState } from "../modelState.ts";
import type { SwarmState } from "../swarm/swarmState.ts";

export interface ServerChoice {
  readonly kind: "server";
  /** With the version: `http://localhost:8080/v1`. */
  readonly url: string;
  /** Kept in this browser alone. */
  readonly key: string;
  /** Empty: whatever the server takes for its own. */
  readonly model: string;
}

export interface SwarmChoice {
  readonly kind: "swarm";
  /** A key: kept in this browser alone. */
  readonly invite: string;
}

export type BackendChoice = { readonly kind: "device" } | ServerChoice | SwarmChoice;

const KEY = "backend";
const MAX_LENGTH = 4096;

export class BackendState {
  readonly choice = signal<BackendChoice>({ kind: "device" });
  readonly backend: ReadonlySignal<ChatBackend | null>;
  readonly #model: ModelState;
  readonly #swarm: SwarmState;

  constructor(model: ModelState, swarm: SwarmState) {
    this.#model = model;
    this.#swarm = swarm;
    const server = computed(() => (this.choice.value.kind === "server" ? serverBackend(this.choice.value) : null));
    const device = computed(() => (this.choice.value.kind === "device" ? (model.engine ?? null) : null));
    const members = computed(() => (this.choice.value.kind === "swarm" ? swarm.backend.value : null));
    this.backend = computed(() => server.value ?? members.value ?? device.value);
  }

  /** As it was on the last visit. A GPU is not looked at while a server answers. */
  async start(): Promise<void> {
    this.choice.value = (await savedChoice()) ?? { kind: "device" };
    if (this.choice.value.kind === "device") await this.#model.start();
    else if (this.choice.value.kind === "swarm") await this.#swarm.enter(this.choice.value.invite);
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

  /** Frees this device's GPU, and enters. Where that fails the swarm's phase says why, and the choice is not kept. */
  async useSwarm(invite: string): Promise<void> {
    const { choice } = this;
    const before = choice.value;
    choice.value = { kind: "swarm", invite };
    this.#model.unload();
    if (this.#swarm.phase.value.name !== "in" || this.#swarm.invite.value !== invite) await this.#swarm.enter(invite);
    if (this.#swarm.phase.value.name === "in") await this.#save();
    else choice.value = before;
  }

  /** This device answers again. */
  async leaveSwarm(): Promise<void> {
    if (this.choice.value.kind === "swarm") {
      this.choice.value = { kind: "device" };
      await this.#save();
    }
    await this.#swarm.leave();
  }

  async #save(): Promise<void> {
    await set(KEY, this.choice.value).catch(() => {});
  }
}

/** The models that a server offers. @throws ApiRequestError, TypeError for an address that is none */
export async function serverModels(choice: ServerChoice): Promise<readonly string[]> {
  return (await serverBackend(choice).models.list({ signal: AbortSignal.timeout(15_000) })).map(({ id }) => id);
}

function serverBackend({ url, key, model }: ServerChoice): ReturnType<typeof createClient> {
  return createClient({ baseUrl: url, apiKey: key, ...(model !== "" && { model }) });
}

async function savedChoice(): Promise<BackendChoice | null> {
  const saved: unknown = await get(KEY).catch(() => null);
  if (typeof saved !== "object" || saved === null) return null;
  const { kind, url, key, model, invite } = saved as Readonly<Record<string, unknown>>;
  const isText = (value: unknown): value is string => typeof value === "string" && value.length <= MAX_LENGTH;
  if (kind === "swarm" && isText(invite)) return { kind, invite };
  if (kind !== "server" || !isText(url) || !isText(key) || !isText(model) || !URL.canParse(url)) return null;
  return { kind, url, key, model };
}
