/** A model that answers: device, stage, engine of many requests, and the server's own API over it. A device that is lost is replaced, and answers go on. */
import { type CheckpointSource, validateCheckpoint } from "@shoal/checkpoint";
import { Engine } from "@shoal/engine";
import type { GpuContext } from "@shoal/gpu";
import type { LoadProgress, LocalStage, Stage, StageDescription } from "@shoal/model";
import { type KernelTimes, decodeTimes } from "@shoal/model/profile";
import { type ChatApi, openChatApi } from "./chatApi.ts";
import { WebError } from "./errors.ts";
import { stageOptions } from "./estimate.ts";
import { StageObserver } from "./observedStage.ts";
import type { Inspection, MtpUse, PagingView, Spread } from "./protocol.ts";
import type { SecondDevice } from "./secondDevice.ts";
import { loadSpread } from "./spread.ts";
import type { PagedExperts } from "./spreadTypes.ts";

export interface SessionOptions {
  /** As requests name the model. */
  readonly name: string;
  readonly openGpu: () => Promise<GpuContext>;
  /** Also for a device in place of a lost one. */
  readonly openCheckpoint: (signal?: AbortSignal) => Promise<CheckpointSource>;
  /** Undefined where there is none. */
  readonly openSecond?: () => Promise<SecondDevice | undefined>;
  readonly spread?: Spread;
  /** As `LoadOptions` has it. */
  readonly expertBytes?: number;
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
}

interface Loaded {
  readonly gpu: GpuContext;
  /** All layers or the first. */
  readonly stage: LocalStage;
  readonly second: SecondDevice | undefined;
  /** With what its experts are read from. */
  readonly paged: (PagedExperts & { readonly checkpoint: CheckpointSource }) | undefined;
  readonly observer: StageObserver;
  readonly description: StageDescription;
}

export class Session {
  readonly #options: SessionOptions;
  #loaded: Loaded | undefined;
  #api: ChatApi | undefined;
  #experts = { nRoutedExperts: 0, nActivatedExperts: 0 };
  #nMtpLayers = 0;
  #watching = false;
  #fault: string | null = null;
  /** Requests wait for it: while kernels are timed nothing else may run. */
  #gate: Promise<unknown> = Promise.resolve();

  constructor(options: SessionOptions) {
    this.#options = options;
  }

  /** @throws WebError, and whatever the packages below throw */
  async load(signal: AbortSignal): Promise<void> {
    const { checkpoint, loaded } = await this.#toDevice(signal);
    const { nRoutedExperts, nActivatedExperts, nMtpLayers } = checkpoint.config;
    this.#experts = { nRoutedExperts, nActivatedExperts };
    this.#nMtpLayers = nMtpLayers;
    this.#api = await openChatApi({
      name: this.#options.name,
      checkpoint,
      openEngine: (constraints) => Engine.open(loaded.observer.stage, { constraints, reopen: () => this.#reopen() }),
      onFault: (fault) => (this.#fault = fault),
    });
  }

  async answer(request: Request): Promise<Response> {
    await this.#gate;
    if (!this.#api) throw new WebError("RequestError", "Cannot answer: no model is loaded");
    return this.#api.answer(request);
  }

  /** Why the last answer failed that failed for no fault of its request. */
  get fault(): string | null {
    return this.#fault;
  }

  /** @param watching whether somebody looks at the routing: steps are then looked at now and then */
  inspect(watching: boolean): Inspection {
    const { engine, loaded } = this.#parts();
    this.#watching = watching;
    loaded.observer.watch(watching);
    return {
      memory: loaded.second ? loaded.description.memory : loaded.gpu.memory.byKind(),
      status: engine.status(),
      mtp: this.#mtpUse(loaded),
      timestamps: loaded.gpu.dialect.timestampQuery && !loaded.second && !loaded.paged,
      ...this.#experts,
      paging: pagingOf(loaded),
      routing: watching ? loaded.observer.take() : undefined,
    };
  }

  /** GPU time of a step that decodes one token, by kernel; null where the device cannot tell. @throws WebError named `BusyError` while something is answered */
  async kernelTimes(): Promise<KernelTimes | null> {
    const { engine, loaded } = this.#parts();
    const { running, waiting } = engine.status();
    if (running + waiting > 0) throw new WebError("BusyError", "Cannot time the kernels: an answer is being written, expected none");
    const timing = (async () => {
      // The sequence that is timed needs blocks that the engine does not know of.
      await engine.clearPrefixCache();
      if (loaded.second || loaded.paged) return null;
      return decodeTimes(loaded.stage);
    })();
    this.#gate = timing.catch(() => {});
    return timing;
  }

  destroy(): void {
    this.#api?.destroy();
    this.#forget();
    this.#api = undefined;
  }

  #mtpUse({ description, gpu }: Loaded): MtpUse {
    if (description.hasMtp) return "drafts";
    if (this.#nMtpLayers === 0) return "none";
    return gpu.adapter.isSoftware ? "processor" : "two-gpus";
  }

  async #reopen(): Promise<Stage> {
    // Of a lost device nothing can be freed.
    this.#forget();
    const { loaded } = await this.#toDevice();
    return loaded.observer.stage;
  }

  async #toDevice(signal?: AbortSignal): Promise<{ readonly checkpoint: CheckpointSource; readonly loaded: Loaded }> {
    const { openGpu, openCheckpoint, onProgress } = this.#options;
    const checkpoint = await openCheckpoint(signal);
    let reads = false;
    try {
      const { config } = checkpoint;
      validateCheckpoint(config, checkpoint.tensors.tensors, checkpoint.location);
      const { adapter } = await openGpu();
      const { gpu, stage, second, whole, paged } = await loadSpread({
        openGpu,
        checkpoint,
        options: { ...stageOptions(config, adapter), ...(signal && { signal }) },
        spread: this.#options.spread ?? "never",
        expertBytes: this.#options.expertBytes,
        openSecond: this.#options.openSecond,
        onProgress,
      });
      const observer = new StageObserver(whole, config);
      observer.watch(this.#watching);
      const description = await whole.describe();
      this.#loaded = { gpu, stage, second, paged: paged && { ...paged, checkpoint }, observer, description };
      reads = paged !== undefined;
      return { checkpoint, loaded: this.#loaded };
    } finally {
      if (!reads) await checkpoint.close();
    }
  }

  #forget(): void {
    this.#loaded?.second?.close();
    // What it still reads for a device that is gone nobody waits for.
    this.#loaded?.paged?.checkpoint.close().catch(() => {});
    this.#loaded?.gpu.destroy();
    this.#loaded = undefined;
  }

  #parts(): { readonly engine: Engine; readonly loaded: Loaded } {
    if (!this.#api || !this.#loaded) throw new WebError("RequestError", "Cannot look inside: no model is loaded");
    return { engine: this.#api.engine, loaded: this.#loaded };
  }
}

function pagingOf({ paged }: Loaded): PagingView | undefined {
  if (!paged) return undefined;
  const { experts, expertBytes, allBytes } = paged;
  return { ...experts.paging, expertBytes, allBytes };
}
