/** The page's side: an engine in a worker, spoken to as OpenAI's client is. */
import type { KernelTimes } from "@shoal/model/profile";
import { type Remote, proxy, wrap } from "comlink";
import { type ChatBackend, type RequestOptions, createClient } from "./client.ts";
import { WebError } from "./errors.ts";
import type { EngineHost } from "./host.ts";
import { portFetch } from "./portFetch.ts";
import type { DownloadProgress, Inspection, LoadOptions, LoadProgress, ModelCheck, ModelSource } from "./protocol.ts";

export interface EngineOptions {
  /** The address of a folder with a checkpoint, relative to the page, or another source. */
  readonly model: string | URL | ModelSource;
  readonly onProgress?: (progress: DownloadProgress) => void;
  readonly signal?: AbortSignal;
}

/** The API's status once the engine takes no more requests. */
const STOPPED = 503;

/** Checks, downloads what is missing, loads. @throws Error whose name tells: NoAdapterError, AdapterLimitError, DownloadError, QuotaError, AbortError, ... */
export async function createEngine({ model, onProgress, signal }: EngineOptions): Promise<Engine> {
  const engine = new Engine(model);
  const options = signal ? { signal } : {};
  try {
    const { refusal } = await engine.check(options);
    if (refusal !== null) throw Object.assign(new Error(refusal), { name: "AdapterLimitError" });
    await engine.download(onProgress, options);
    await engine.load(undefined, options);
    return engine;
  } catch (error) {
    engine.close();
    throw error;
  }
}

export class Engine implements ChatBackend {
  readonly chat: ChatBackend["chat"];
  readonly models: ChatBackend["models"];
  /**
   * The server's API as a `fetch` that never leaves the page: `/v1/chat/completions`, `/v1/completions`, `/v1/models`, `/metrics`, ... under any host. Give it to whatever
   * takes one, such as OpenAI's own client.
   */
  readonly fetch: typeof globalThis.fetch;
  readonly #worker: Worker;
  readonly #host: Remote<EngineHost>;
  /** Rejects when the worker dies. */
  readonly #death: Promise<never>;
  readonly #die: (reason: Error) => void;
  /** Resolves with the reason when nothing will be answered any more, unless it was closed: its worker died, or its device was lost again and again. */
  readonly ended: Promise<Error>;
  #closed = false;
  /** A cancelled call that the worker is still ending. */
  #ending: Promise<unknown>;

  /** Starts the worker; `check`, `download` and `load` come before the first answer. */
  constructor(model: string | URL | ModelSource) {
    const source: ModelSource =
      typeof model === "string" || model instanceof URL ? { kind: "folder", url: new URL(model, location.href).href } : model;
    this.#worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name: "shoal engine" });
    this.#host = wrap<EngineHost>(this.#worker);
    const { promise, reject } = Promise.withResolvers<never>();
    this.#death = promise;
    this.#die = reject;
    const ended = Promise.withResolvers<Error>();
    this.ended = ended.promise;
    // Nobody may be waiting when it happens.
    this.#death.catch((reason: Error) => this.#closed || ended.resolve(reason));
    this.#worker.addEventListener("error", ({ message }) => reject(new Error(`Cannot go on: the engine's worker died: ${message}`)));
    this.#ending = this.#host.use(source);
    const answer = portFetch(this.#host, this.#death);
    this.fetch = async (input, init) => {
      const response = await answer(input, init);
      if (response.status === STOPPED) {
        const fault = await this.fault().catch(() => null);
        ended.resolve(Object.assign(new Error(fault ?? "Cannot answer: the engine stopped"), { name: "EngineStopped" }));
      }
      return response;
    };
    const client = createClient({ baseUrl: "http://engine.invalid/v1", fetch: this.fetch });
    this.chat = client.chat;
    this.models = client.models;
  }

  check(options: RequestOptions = {}): Promise<ModelCheck> {
    return this.#call((host) => host.check(), options.signal);
  }

  /** Goes on where an earlier call was aborted, in this tab or another. */
  download(onProgress: (progress: DownloadProgress) => void = () => {}, options: RequestOptions = {}): Promise<void> {
    return this.#call((host) => host.download(proxy(onProgress) as never), options.signal);
  }

  /** Onto the GPU. */
  load(onProgress: (progress: LoadProgress) => void = () => {}, { signal, ...options }: LoadOptions & RequestOptions = {}): Promise<void> {
    return this.#call((host) => host.load(proxy(onProgress) as never, options), signal);
  }

  /** What the model is doing. @param watching whether to look at which experts are chosen, which costs a step now and then */
  inspect(watching: boolean): Promise<Inspection> {
    return Promise.race([this.#host.inspect(watching), this.#death]);
  }

  /** GPU time of a decoding step by kernel, measured now; null where the device has no timestamp queries. @throws Error named BusyError while it answers */
  kernelTimes(): Promise<KernelTimes | null> {
    return Promise.race([this.#host.kernelTimes(), this.#death]);
  }

  /** What was behind the last answer that failed with `internal_error`. */
  fault(): Promise<string | null> {
    return Promise.race([this.#host.fault(), this.#death]);
  }

  /** Ends the worker, and with it the device and all that is being answered. */
  close(): void {
    this.#closed = true;
    this.#worker.terminate();
    this.#die(new WebError("RequestError", "Cannot go on: the engine was closed"));
  }

  /** Ends with the worker's answer or error, with the signal's reason, or with the worker's death. */
  async #call<T>(call: (host: Remote<EngineHost>) => Promise<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    await Promise.race([this.#ending, this.#death]);
    signal?.throwIfAborted();
    const answer = call(this.#host);
    const aborted = Promise.withResolvers<never>();
    aborted.promise.catch(() => {});
    const cancel = (): void => {
      this.#ending = answer.catch(() => {});
      this.#host.cancel().catch(() => {});
      aborted.reject(signal?.reason);
    };
    signal?.addEventListener("abort", cancel, { once: true });
    try {
      return await Promise.race([answer, aborted.promise, this.#death]);
    } finally {
      signal?.removeEventListener("abort", cancel);
    }
  }
}
