/**
 * The main thread's side of the GPU worker. Every call ends: with the worker's answer or error, with the signal's reason, or with the worker's death.
 */
import {
  type EngineResult,
  type EngineStatus,
  type GeneratedToken,
  type GenerationRequest,
  type GenerationResult,
  type TokenGenerator,
  untilAborted,
} from "@shoal/engine";
import type { TokenVocabulary } from "@shoal/engine/constrained";
import type { DeviceTimes } from "@shoal/gpu";
import type { LoadProgress, StageDescription } from "@shoal/model";
import type { KernelBenchResult, ModelBench } from "@shoal/model/bench";
import type { TuneProgress, TuneResult } from "@shoal/model/tuning";
import { type Remote, proxy, transfer, wrap } from "comlink";
import { RunnerError } from "../errors.ts";
import { installErrorTransfer } from "./errorTransfer.ts";
import type { GpuHost } from "./host.ts";
import type {
  BenchRequest,
  DevicePaging,
  DeviceReport,
  DeviceRequest,
  GpuBenchAnswer,
  GpuBenchEvent,
  GpuBenchRequest,
  KernelBenchRequest,
  LoadRequest,
  LogitsRequest,
  LogitsRows,
  Requirements,
  SubmitRequest,
  TuneRequest,
} from "./protocol.ts";

export class GpuClient implements TokenGenerator {
  readonly #worker: Worker;
  readonly #host: Remote<GpuHost>;
  /** Rejects when the worker dies. */
  readonly #death: Promise<never>;
  /** A cancelled call that the worker is still ending. */
  #ending: Promise<unknown> = Promise.resolve();

  constructor() {
    installErrorTransfer();
    this.#worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name: "gpu" });
    this.#host = wrap<GpuHost>(this.#worker);
    const { promise, reject } = Promise.withResolvers<never>();
    this.#death = promise;
    // Nobody may be waiting when it happens.
    this.#death.catch(() => {});
    this.#worker.addEventListener("error", (event) => {
      // Otherwise Deno ends the whole process with a stack trace.
      event.preventDefault();
      reject(new RunnerError(`Cannot go on: the GPU worker died: ${event.message}`));
    });
    this.#worker.addEventListener("messageerror", () =>
      reject(new RunnerError("Cannot go on: a message of the GPU worker could not be read")),
    );
  }

  open(request: DeviceRequest, signal?: AbortSignal): Promise<DeviceReport> {
    return this.#call((host) => host.open(request), signal);
  }

  measure(signal?: AbortSignal): Promise<DeviceTimes> {
    return this.#call((host) => host.measure(), signal);
  }

  /** How the paging of experts goes, on each device. */
  paging(signal?: AbortSignal): Promise<readonly DevicePaging[]> {
    return this.#call((host) => host.paging(), signal);
  }

  /** What of a wish for devices could not be had, once they are loaded. */
  fleetNotes(signal?: AbortSignal): Promise<readonly string[]> {
    return this.#call((host) => host.fleetNotes(), signal);
  }

  requirements(request: LoadRequest, signal?: AbortSignal): Promise<Requirements> {
    return this.#call((host) => host.requirements(request), signal);
  }

  /** @param elsewhere of its layers' routed experts: how many of each are loaded too, and the port behind which a shard of the others is served */
  load(
    request: LoadRequest,
    onProgress: (progress: LoadProgress) => void,
    signal?: AbortSignal,
    elsewhere?: { readonly own: number; readonly port: MessagePort },
  ): Promise<StageDescription> {
    const given = elsewhere && transfer(elsewhere, [elsewhere.port]);
    return this.#call((host) => host.load(request, proxy(onProgress) as never, given), signal);
  }

  /** Routed experts of the request's layers, and nothing else; served at the other end of the port. */
  loadExperts(request: LoadRequest, experts: { readonly begin: number; readonly end: number }, port: MessagePort): Promise<void> {
    return this.#call((host) => host.loadExperts(request, experts, transfer(port, [port])));
  }

  /** The stage that is loaded, for another thread or process at the other end of the port. */
  serveStage(port: MessagePort): Promise<void> {
    return Promise.race([this.#host.serveStage(transfer(port, [port])), this.#death]);
  }

  unload(): Promise<void> {
    return Promise.race([this.#host.unload(), this.#death]);
  }

  generate({ onTokens, onPrefill, signal, ...request }: GenerationRequest): Promise<GenerationResult> {
    const refused = Promise.withResolvers<never>();
    refused.promise.catch(() => {});
    const guard = (take: () => void): void => {
      // What was sent before the abort was noticed is not wanted any more.
      if (signal?.aborted === true) return;
      try {
        take();
      } catch (error) {
        // The caller gets its own error back, not its way through the worker, which stops too.
        refused.reject(error);
        throw error;
      }
    };
    const tokens = proxy((ids: readonly number[]) => guard(() => onTokens?.(ids))) as never;
    const prefill = proxy((done: number, total: number) => guard(() => onPrefill?.(done, total))) as never;
    return this.#call((host) => Promise.race([host.generate(request, tokens, prefill), refused.promise]), signal);
  }

  /** @param vocabulary for requests that follow grammars */
  openEngine(vocabulary: TokenVocabulary, signal?: AbortSignal): Promise<EngineStatus> {
    return this.#call((host) => host.openEngine(vocabulary), signal);
  }

  /** Unlike other calls, many run at once; `cancelRequest` ends one of them. */
  submit(
    id: number,
    request: SubmitRequest,
    onTokens: (tokens: readonly GeneratedToken[], status: EngineStatus) => void,
  ): Promise<{ readonly result: EngineResult; readonly status: EngineStatus }> {
    return Promise.race([this.#host.submit(id, request, proxy(onTokens) as never), this.#death]);
  }

  engineStatus(): Promise<EngineStatus> {
    return Promise.race([this.#host.engineStatus(), this.#death]);
  }

  cancelRequest(id: number): void {
    this.#host.cancelRequest(id).catch(() => {});
  }

  closeEngine(): Promise<void> {
    return Promise.race([this.#host.closeEngine(), this.#death]);
  }

  logits(request: LogitsRequest, onRows: (rows: LogitsRows) => Promise<void>, signal?: AbortSignal): Promise<void> {
    return this.#call((host) => host.logits(request, proxy(onRows) as never), signal);
  }

  bench(request: BenchRequest, onPhase: (what: string) => void, signal?: AbortSignal): Promise<ModelBench> {
    return this.#call((host) => host.bench(request, proxy(onPhase) as never), signal);
  }

  benchKernels(
    request: KernelBenchRequest,
    onResult: (result: KernelBenchResult) => void,
    signal?: AbortSignal,
  ): Promise<readonly KernelBenchResult[]> {
    return this.#call((host) => host.benchKernels(request, proxy(onResult) as never), signal);
  }

  benchGpu(request: GpuBenchRequest, onEvent: (event: GpuBenchEvent) => void, signal?: AbortSignal): Promise<GpuBenchAnswer> {
    return this.#call((host) => host.benchGpu(request, proxy(onEvent) as never), signal);
  }

  tune(request: TuneRequest, onCase: (progress: TuneProgress) => void, signal?: AbortSignal): Promise<TuneResult> {
    return this.#call((host) => host.tune(request, proxy(onCase) as never), signal);
  }

  /**
   * Stops what the worker is doing. The thread itself ends with the process: terminating one inside Dawn made Deno 2.9.6 spin for ever, once in 40 runs.
   */
  close(): void {
    this.#host.cancel().catch(() => {});
  }

  async #call<T>(call: (host: Remote<GpuHost>) => Promise<T>, signal?: AbortSignal): Promise<T> {
    await untilAborted(Promise.race([this.#ending, this.#death]), signal);
    const answer = call(this.#host);
    const cancel = (): void => {
      this.#ending = answer.catch(() => {});
      this.#host.cancel().catch(() => {});
    };
    signal?.addEventListener("abort", cancel, { once: true });
    try {
      return await untilAborted(Promise.race([answer, this.#death]), signal);
    } finally {
      signal?.removeEventListener("abort", cancel);
    }
  }
}
