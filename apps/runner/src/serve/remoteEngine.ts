/** The worker's engine, as the main thread uses it. Its status is as of the last message, which every token brings. */
import type { EngineRequest, EngineResult, EngineStatus, GeneratedToken, InferenceEngine, RunningRequest } from "@shoal/engine";
import type { GpuClient } from "../gpu/client.ts";

export class RemoteEngine implements InferenceEngine {
  readonly #client: GpuClient;
  #status: EngineStatus;
  #next = 0;
  readonly #running = new Set<RunningRequest>();

  constructor(client: GpuClient, status: EngineStatus) {
    this.#client = client;
    this.#status = status;
  }

  /** What the engine refuses comes by `result` and the iteration. @throws the signal's reason */
  submit(request: EngineRequest): RunningRequest {
    request.signal?.throwIfAborted();
    const running = new RemoteRequest(this.#client, this.#next++, request, (status) => (this.#status = status));
    this.#running.add(running);
    const ended = (): void => void this.#running.delete(running);
    running.result.then(ended, ended);
    return running;
  }

  status(): EngineStatus {
    return this.#status;
  }

  async drain(): Promise<void> {
    await Promise.allSettled([...this.#running].map(({ result }) => result));
  }

  close(): Promise<void> {
    return this.#client.closeEngine();
  }
}

class RemoteRequest implements RunningRequest {
  readonly result: Promise<EngineResult>;
  readonly #client: GpuClient;
  readonly #id: number;
  #ready: GeneratedToken[] = [];
  #ended = false;
  #reason: { readonly reason: unknown } | undefined;
  #hear: () => void = () => {};

  constructor(client: GpuClient, id: number, { signal, ...request }: EngineRequest, onStatus: (status: EngineStatus) => void) {
    this.#client = client;
    this.#id = id;
    const take = (tokens: readonly GeneratedToken[], status: EngineStatus): void => {
      onStatus(status);
      this.#ready.push(...tokens);
      this.#hear();
    };
    const abort = (): void => this.#stop(signal?.reason);
    signal?.addEventListener("abort", abort, { once: true });
    this.result = this.#run(client.submit(id, request, take), onStatus).finally(() => signal?.removeEventListener("abort", abort));
    this.result.catch(() => {});
  }

  async cancel(reason: unknown = new DOMException("The request was cancelled", "AbortError")): Promise<void> {
    this.#stop(reason);
    await this.result.catch(() => {});
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<readonly GeneratedToken[], void, void> {
    try {
      for (;;) {
        if (this.#ready.length > 0) {
          const tokens = this.#ready;
          this.#ready = [];
          yield tokens;
        } else if (this.#ended) {
          await this.result;
          return;
        } else await new Promise<void>((resolve) => (this.#hear = resolve));
      }
    } finally {
      if (!this.#ended) await this.cancel();
    }
  }

  #stop(reason: unknown): void {
    if (this.#ended || this.#reason) return;
    this.#reason = { reason };
    this.#client.cancelRequest(this.#id);
  }

  async #run(
    answer: Promise<{ readonly result: EngineResult; readonly status: EngineStatus }>,
    onStatus: (status: EngineStatus) => void,
  ): Promise<EngineResult> {
    try {
      const { result, status } = await answer;
      onStatus(status);
      return result;
    } catch (error) {
      // Its place is free now, which no token tells.
      this.#client.engineStatus().then(onStatus, () => {});
      // The caller's own reason, not its way through the worker.
      throw this.#reason ? this.#reason.reason : error;
    } finally {
      this.#ended = true;
      this.#hear();
    }
  }
}
