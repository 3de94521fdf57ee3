/** The page's side: an engine in a worker, spoken to as OpenAI's client is. */
import { type Remote, proxy, wrap } from "comlink";
import type { EngineHost } from "./host.ts";
import type {
  Answer,
  AnswerRequest,
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionRequest,
  DownloadProgress,
  ModelCheck,
} from "./protocol.ts";

export interface EngineOptions {
  /** The folder of a checkpoint with a `manifest.json`; relative to the page. */
  readonly model: string | URL;
  readonly onProgress?: (progress: DownloadProgress) => void;
  readonly signal?: AbortSignal;
}

export interface RequestOptions {
  readonly signal?: AbortSignal;
}

/** Checks, downloads what is missing, loads. @throws Error whose name tells: NoAdapterError, AdapterLimitError, DownloadError, QuotaError, AbortError, ... */
export async function createEngine({ model, onProgress, signal }: EngineOptions): Promise<Engine> {
  const engine = new Engine(model);
  try {
    const { refusal } = await engine.check({ ...(signal && { signal }) });
    if (refusal !== null) throw Object.assign(new Error(refusal), { name: "AdapterLimitError" });
    await engine.download(onProgress, { ...(signal && { signal }) });
    await engine.load({ ...(signal && { signal }) });
    return engine;
  } catch (error) {
    engine.close();
    throw error;
  }
}

export class Engine {
  readonly #worker: Worker;
  readonly #host: Remote<EngineHost>;
  /** Rejects when the worker dies. */
  readonly #death: Promise<never>;
  /** A cancelled call that the worker is still ending. */
  #ending: Promise<unknown> = Promise.resolve();

  /** Starts the worker; `check`, `download` and `load` come before the first answer. */
  constructor(model: string | URL) {
    const base = new URL(model, location.href);
    if (!base.pathname.endsWith("/")) base.pathname += "/";
    this.#worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name: base.href });
    this.#host = wrap<EngineHost>(this.#worker);
    const { promise, reject } = Promise.withResolvers<never>();
    this.#death = promise;
    // Nobody may be waiting when it happens.
    this.#death.catch(() => {});
    this.#worker.addEventListener("error", ({ message }) => reject(new Error(`Cannot go on: the engine's worker died: ${message}`)));
  }

  readonly chat = {
    completions: {
      create: ((request: ChatCompletionRequest, options: RequestOptions = {}) =>
        request.stream === true ? this.#stream(request, options) : this.#complete(request, options)) as CreateCompletion,
    },
  };

  check(options: RequestOptions = {}): Promise<ModelCheck> {
    return this.#call((host) => host.check(), options.signal);
  }

  /** Goes on where an earlier call was aborted. */
  download(onProgress: (progress: DownloadProgress) => void = () => {}, options: RequestOptions = {}): Promise<void> {
    return this.#call((host) => host.download(proxy(onProgress) as never), options.signal);
  }

  load(options: RequestOptions = {}): Promise<void> {
    return this.#call((host) => host.load(), options.signal);
  }

  /** Ends the worker, and with it the device. */
  close(): void {
    this.#worker.terminate();
  }

  #answer(request: AnswerRequest, onText: (text: string) => void, signal?: AbortSignal): Promise<Answer> {
    return this.#call((host) => host.answer(request, proxy(onText) as never), signal);
  }

  async #complete(request: ChatCompletionRequest, { signal }: RequestOptions): Promise<ChatCompletion> {
    const { text, finishReason, usage, timings } = await this.#answer(request, () => {}, signal);
    return {
      object: "chat.completion",
      choices: [{ index: 0, message: { role: "assistant", content: text }, finish_reason: finishReason }],
      usage,
      timings,
    };
  }

  async *#stream(request: ChatCompletionRequest, { signal }: RequestOptions): AsyncGenerator<ChatCompletionChunk, void> {
    const left = new AbortController();
    const either = signal ? AbortSignal.any([signal, left.signal]) : left.signal;
    const pieces: string[] = [];
    let wake = Promise.withResolvers<void>();
    const onText = (text: string): void => {
      pieces.push(text);
      wake.resolve();
    };
    const answer = this.#answer(request, onText, either);
    const ended = answer.then(
      () => true,
      () => true,
    );
    try {
      for (let done = false; !done || pieces.length > 0;) {
        if (pieces.length === 0) done = await Promise.race([ended, wake.promise.then(() => false)]);
        wake = Promise.withResolvers();
        const content = pieces.splice(0).join("");
        if (content !== "") yield { object: "chat.completion.chunk", choices: [{ index: 0, delta: { content }, finish_reason: null }] };
      }
      const { finishReason, usage, timings } = await answer;
      yield { object: "chat.completion.chunk", choices: [{ index: 0, delta: {}, finish_reason: finishReason }], usage, timings };
    } finally {
      // Whoever leaves the loop wants no more of it.
      left.abort();
    }
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

interface CreateCompletion {
  (request: ChatCompletionRequest & { readonly stream: true }, options?: RequestOptions): AsyncGenerator<ChatCompletionChunk, void>;
  (request: ChatCompletionRequest & { readonly stream?: false }, options?: RequestOptions): Promise<ChatCompletion>;
}
