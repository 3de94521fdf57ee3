/**
 * The worker's side: a device, a loaded stage and its generator, called by the main thread. Nothing else may live in this thread, since Deno's wgpu blocks its
 * event loop while it waits for the device.
 */
import { type CheckpointSource, type ModelConfig, openCheckpoint } from "@shoal/checkpoint";
import { directoryFiles, openLocation } from "@shoal/checkpoint/directory";
import { PartedExperts, SharedStage, portChannel, remoteShard, serveShard, serveStage } from "@shoal/cluster";
import {
  Engine,
  EngineError,
  type EngineResult,
  type EngineStatus,
  type GeneratedToken,
  type GenerationResult,
  Generator,
} from "@shoal/engine";
import { GrammarConstraints, type TokenVocabulary, spawnGrammarWorker } from "@shoal/engine/constrained";
import { type DeviceTimes, type GpuContext, type OpenedAdapter, measureDevice } from "@shoal/gpu";
import { DeviceFleet } from "@shoal/cluster/deno";
import { type DenoOpenOptions, openDenoGpu } from "@shoal/gpu/deno";
import {
  type ExpertShard,
  type LoadProgress,
  type LocalExpertShard,
  type LocalStage,
  type LocalStageOptions,
  type Stage,
  type StageDescription,
  checkAdapter,
  loadLocalExpertShard,
  loadLocalStage,
  memoryRequirements,
  stagePlan,
} from "@shoal/model";
import { type KernelBenchResult, type ModelBench, benchGpu, benchKernels, benchModel } from "@shoal/model/bench";
import { TrialChoices, type TuneProgress, type TuneResult, tune } from "@shoal/model/tuning";
import { ChunkedFiles, filesSource, parseManifest } from "@shoal/swarm/weights";
import { type Remote, releaseProxy, transfer } from "comlink";
import { diskChunks } from "../swarm/chunkCache.ts";
import { type Tuning, tuningFor } from "../tuning/choices.ts";
import { fleetLayout } from "./fleetLayout.ts";
import {
  type BenchRequest,
  type DevicePaging,
  type DeviceReport,
  type DeviceRequest,
  type FleetWish,
  type GenerateRequest,
  type GpuBenchAnswer,
  type GpuBenchEvent,
  type GpuBenchRequest,
  type KernelBenchRequest,
  type LoadRequest,
  type LogitsRequest,
  type LogitsRows,
  type Requirements,
  type SubmitRequest,
  type TuneRequest,
} from "./protocol.ts";

/** Between two reports of progress. */
const PROGRESS_MS = 50;

/** A callback of the main thread's. comlink makes every call of it a promise. */
type Callback<Arguments extends unknown[]> = Remote<(...args: Arguments) => void> & { [releaseProxy]?: () => void };

export class GpuHost {
  #gpu: GpuContext | undefined;
  /** How `#gpu` was opened. */
  #opened: DenoOpenOptions = {};
  /** Contexts that the bench and the tuner opened and closed. */
  readonly #benched: GpuContext[] = [];
  #stage: Stage | undefined;
  /** As several threads use it. */
  #shared: { readonly of: Stage; readonly stage: SharedStage } | undefined;
  /** The same, if it is on the device that is open. */
  #local: LocalStage | undefined;
  #fleet: DeviceFleet | undefined;
  #fleetNotes: readonly string[] = [];
  /** Experts of which only some are on the device, and what the others are read from. */
  #paged: { readonly shard: LocalExpertShard; readonly checkpoint: CheckpointSource } | undefined;
  /** Of a stage elsewhere; there is no stage here then. */
  #shard: LocalExpertShard | undefined;
  /** What `#stage` was loaded by. */
  #loaded: LoadRequest | undefined;
  #generator: Generator | undefined;
  #running: AbortController | undefined;
  #engine: Engine | undefined;
  #constraints: GrammarConstraints | undefined;
  /** Of the engine, by the caller's number. */
  readonly #requests = new Map<number, AbortController>();
  readonly #openGpu: typeof openDenoGpu;

  constructor(openGpu: typeof openDenoGpu = openDenoGpu) {
    this.#openGpu = openGpu;
  }

  async open({ webgpu, adapterName, tuning: wanted, matrices }: DeviceRequest): Promise<DeviceReport> {
    let tuning: Tuning | undefined;
    const choices = async (opened: OpenedAdapter): Promise<ReadonlyMap<string, string>> => {
      tuning = await tuningFor(opened, wanted);
      return tuning.choices;
    };
    const subgroupMatrix = matrices === "precise" ? matrices : matrices !== "off";
    this.#opened = { webgpu, ...(adapterName !== undefined && { adapterName }), choices, subgroupMatrix };
    const gpu = await this.#openGpu(this.#opened);
    const { report } = tuning ?? (await tuningFor({ adapter: gpu.adapter, engine: gpu.dialect.engine }, wanted));
    this.#gpu = gpu;
    const limits: Record<string, number> = {};
    for (const name in gpu.limits) {
      const value: unknown = gpu.limits[name as keyof GPUSupportedLimits];
      if (typeof value === "number" || typeof value === "bigint") limits[name] = Number(value);
    }
    return { adapter: gpu.adapter, dialect: gpu.dialect, limits, features: [...gpu.device.features].sort(), tuning: report };
  }

  async measure(): Promise<DeviceTimes> {
    return measureDevice(this.#device());
  }

  /** What a run would take, without loading anything. */
  async requirements(request: LoadRequest): Promise<Requirements> {
    const checkpoint = await openLocation(request.location, { ...(request.config && { config: request.config }) });
    try {
      const subgroupMatrix = this.#gpu?.dialect.subgroupMatrix !== undefined;
      const run = { ...stagePlan(checkpoint.config, stageOptions(request)), kvFormat: request.kvFormat, subgroupMatrix };
      let refusal: string | null = null;
      try {
        if (this.#gpu) checkAdapter(this.#gpu.limits, checkpoint, run);
      } catch (error) {
        if (!(error instanceof Error) || error.name !== "AdapterLimitError") throw error;
        refusal = error.message;
      }
      return { ...memoryRequirements(checkpoint, run), refusal };
    } finally {
      await checkpoint.close();
    }
  }

  async load(request: LoadRequest, onProgress: Callback<[LoadProgress]>, elsewhere?: ElsewherePort): Promise<StageDescription> {
    return this.#abortable(async (signal) => {
      let reportedAt = 0;
      const report = (progress: LoadProgress): void => {
        const now = performance.now();
        if (now - reportedAt < PROGRESS_MS && progress.loadedBytes < progress.totalBytes) return;
        reportedAt = now;
        // A report that is lost is no loss.
        onProgress(progress).catch(() => {});
      };
      const stage = await this.#loadStage(request, { onProgress: report, signal }, elsewhere);
      this.#generator = await Generator.open(stage, { reopen: () => this.#reopen({ keepGenerator: true }) });
      return await stage.describe();
    });
  }

  /** Routed experts of the request's layers, for a stage elsewhere, until `unload`. */
  async loadExperts(request: LoadRequest, experts: { readonly begin: number; readonly end: number }, port: MessagePort): Promise<void> {
    await this.#abortable(async (signal) => {
      const checkpoint = await openRequested(request, signal);
      try {
        const shard = await loadExpertsOf(this.#device(), checkpoint, request, experts, { signal, ownsGpu: true });
        this.#shard = shard;
        serveShard(portChannel(port), shard);
      } finally {
        await checkpoint.close();
      }
    });
  }

  /** Lets another thread use the stage that is loaded, until the port closes: a swarm's peer, whose links are the main thread's. */
  serveStage(port: MessagePort): void {
    if (!this.#stage) throw new EngineError("closed", "Cannot serve a stage: none is loaded");
    if (this.#shared?.of !== this.#stage) this.#shared = { of: this.#stage, stage: new SharedStage(this.#stage) };
    void serveStage(portChannel(port), this.#shared.stage, { ownsStage: false });
  }

  /** Forgets stage and device: another part of a model may be loaded after `open`. */
  async unload(): Promise<void> {
    const stage = this.#stage;
    this.#fleet?.close();
    await this.#paged?.checkpoint.close();
    this.#paged = undefined;
    this.#stage = undefined;
    this.#local = undefined;
    this.#fleet = undefined;
    this.#generator = undefined;
    this.#gpu = undefined;
    await this.#shard?.destroy();
    this.#shard = undefined;
    await stage?.destroy();
  }

  async #loadStage(
    request: LoadRequest,
    options: Pick<LocalStageOptions, "onProgress" | "signal"> = {},
    elsewhere?: ElsewherePort,
  ): Promise<Stage> {
    const { signal, onProgress } = options;
    const checkpoint = await openRequested(request, signal);
    try {
      if (request.fleet) this.#stage = await this.#openFleet(request, request.fleet, checkpoint.config, onProgress);
      else {
        const gpu = this.#device();
        const own = await pagedExperts(gpu, checkpoint, request, options);
        this.#paged = own && { shard: own, checkpoint };
        const experts = own ?? (elsewhere && (await partlyElsewhere(gpu, checkpoint, request, elsewhere, signal)));
        this.#local = await loadLocalStage(gpu, checkpoint, { ...stageOptions(request), ...(experts && { experts }), ...options });
        this.#stage = this.#local;
      }
      this.#loaded = request;
      return this.#stage;
    } finally {
      // Experts are read from it as long as they are paged.
      if (this.#paged?.checkpoint !== checkpoint) await checkpoint.close();
    }
  }

  /** What of a wish for devices could not be had, once they are loaded. */
  fleetNotes(): readonly string[] {
    return this.#fleetNotes;
  }

  /** How paging goes: of each device, summed over its layers; nothing where all experts are on their devices. */
  async paging(): Promise<readonly DevicePaging[]> {
    if (this.#fleet) return this.#loaded?.expertBytes === undefined ? [] : this.#fleet.paging();
    return this.#paged ? [{ device: this.#device().adapter.description, stats: [this.#paged.shard.paging] }] : [];
  }

  /** The same model on another device, or on a fleet without the lost one, where a device was lost. */
  async #reopen({ keepGenerator = false } = {}): Promise<Stage> {
    if (this.#fleet) {
      this.#stage = await this.#fleet.reopen();
      return this.#stage;
    }
    const request = this.#loaded;
    if (!request) throw new EngineError("closed", "Cannot open the model again: none is loaded");
    if (!keepGenerator) this.#generator = undefined;
    await this.#paged?.checkpoint.close();
    this.#paged = undefined;
    // Whatever the lost one says of its end.
    await this.#stage?.destroy().catch(() => {});
    this.#gpu = await this.#openGpu(this.#opened);
    return this.#loadStage(request);
  }

  async #openFleet(
    request: LoadRequest,
    wish: FleetWish,
    config: ModelConfig,
    onProgress: LocalStageOptions["onProgress"],
  ): Promise<Stage> {
    const { members, layout, notes } = await fleetLayout(wish, config);
    this.#fleetNotes = notes;
    const { location, expertBytes } = request;
    const { subgroupMatrix = true } = this.#opened;
    this.#fleet = await DeviceFleet.open({
      members: members.map((member) => ({ ...member, subgroupMatrix })),
      layout,
      activations: wish.activations,
      ...(expertBytes !== undefined && { expertBytes }),
      location,
      config,
      overrides: request.config !== undefined,
      options: stageOptions(request),
      ...(onProgress && { onProgress }),
    });
    return this.#fleet.stage;
  }

  /** Resolves when every id has been taken by `onTokens`. */
  async generate(
    request: GenerateRequest,
    onTokens: Callback<[readonly number[]]>,
    onPrefill: Callback<[done: number, total: number]>,
  ): Promise<GenerationResult> {
    const generator = this.#generator;
    if (!generator) throw new EngineError("closed", "Cannot generate: no model is loaded");
    return this.#abortable(async (signal, abort) => {
      let delivered: Promise<unknown> = Promise.resolve();
      const send = (call: Promise<unknown>): void => {
        // Answers to calls come in their order, so the last one stands for all. Whoever cannot take tokens wants no more.
        delivered = call;
        call.catch(abort);
      };
      try {
        const result = await generator.generate({
          ...request,
          signal,
          onTokens: (ids) => send(onTokens(ids)),
          onPrefill: (done, total) => send(onPrefill(done, total)),
        });
        await delivered;
        return result;
      } finally {
        onTokens[releaseProxy]?.();
        onPrefill[releaseProxy]?.();
      }
    });
  }

  /** For many requests at once, over the stage that is loaded. */
  async openEngine(vocabulary: TokenVocabulary): Promise<EngineStatus> {
    if (!this.#stage) throw new EngineError("closed", "Cannot open an engine: no model is loaded");
    // Its thread starts with the first request that has a grammar.
    this.#constraints = new GrammarConstraints({ spawn: spawnGrammarWorker, vocabulary });
    this.#engine = await Engine.open(this.#stage, { constraints: this.#constraints, reopen: () => this.#reopen() });
    return this.#engine.status();
  }

  /** Resolves when the request has ended and every token has been taken. */
  async submit(
    id: number,
    request: SubmitRequest,
    onTokens: Callback<[tokens: readonly GeneratedToken[], status: EngineStatus]>,
  ): Promise<{ readonly result: EngineResult; readonly status: EngineStatus }> {
    const engine = this.#engine;
    if (!engine) throw new EngineError("closed", "Cannot generate: the engine is not open");
    const controller = new AbortController();
    this.#requests.set(id, controller);
    try {
      const running = engine.submit({ ...request, signal: controller.signal });
      for await (const tokens of running) await onTokens(tokens, engine.status());
      return { result: await running.result, status: engine.status() };
    } finally {
      this.#requests.delete(id);
      onTokens[releaseProxy]?.();
    }
  }

  engineStatus(): EngineStatus {
    if (!this.#engine) throw new EngineError("closed", "Cannot tell of the engine: it is not open");
    return this.#engine.status();
  }

  cancelRequest(id: number): void {
    this.#requests.get(id)?.abort();
  }

  async closeEngine(): Promise<void> {
    await this.#engine?.close();
    this.#engine = undefined;
    this.#constraints?.destroy();
  }

  /** Computes a prompt in steps and hands each step's rows out; the next step waits until they are taken. */
  async logits({ ids, hidden, routing, mtp }: LogitsRequest, onRows: Callback<[LogitsRows]>): Promise<void> {
    const stage = this.#stage;
    if (!stage) throw new EngineError("closed", "Cannot compute logits: no model is loaded");
    await this.#abortable(async (signal) => {
      const { maxTokens, hasMtp } = await stage.describe();
      const sequence = await stage.open();
      for (let start = 0; start < ids.length; start += maxTokens) {
        signal.throwIfAborted();
        const tokens = ids.slice(start, start + maxTokens);
        const step = await stage.forward({ entries: [{ sequence, tokens }], output: "allLogits", capture: { hidden, routing } });
        // The last row has no next token to go with.
        const next = ids.slice(start + 1, start + 1 + tokens.length);
        const draft =
          mtp && hasMtp && next.length > 0 ? await stage.draft({ entries: [{ sequence, tokens: next }], output: "allLogits" }) : undefined;
        const rows: LogitsRows = {
          start,
          tokens: tokens.length,
          logits: step.logits ?? new Float32Array(),
          layerHidden: step.layerHidden ?? [],
          routing: step.routing ?? [],
          mtpLogits: draft?.logits ?? null,
        };
        const buffers = [rows.logits, ...rows.layerHidden, ...rows.routing.flatMap(({ indices, weights }) => [indices, weights])];
        const all = [...buffers, ...(rows.mtpLogits ? [rows.mtpLogits] : [])].map(({ buffer }) => buffer);
        await onRows(transfer(rows, [...new Set(all)]));
      }
      await stage.close(sequence);
    });
  }

  async bench(request: BenchRequest, onPhase: Callback<[what: string]>): Promise<ModelBench> {
    const stage = this.#local;
    if (!stage) throw new EngineError("closed", "Cannot measure: no model is loaded");
    // A report that is lost is no loss.
    const report = (what: string): void => void onPhase(what).catch(() => {});
    return this.#abortable((signal) => benchModel(stage, { ...request, onPhase: report, signal }));
  }

  async benchKernels(request: KernelBenchRequest, onResult: Callback<[KernelBenchResult]>): Promise<readonly KernelBenchResult[]> {
    // A report that is lost is no loss.
    const report = (result: KernelBenchResult): void => void onResult(result).catch(() => {});
    return this.#abortable((signal) => benchKernels(this.#device(), { ...request, onResult: report, signal }));
  }

  async benchGpu(request: GpuBenchRequest, onEvent: Callback<[GpuBenchEvent]>): Promise<GpuBenchAnswer> {
    const { engine } = this.#device().dialect;
    const { size, configs, only, tiny } = request;
    // A report that is lost is no loss.
    const report = (event: GpuBenchEvent): void => void onEvent(event).catch(() => {});
    const open = async ({ subgroupMatrix }: { readonly subgroupMatrix: boolean }): Promise<GpuContext> => {
      const as = { ...this.#opened, webgpu: engine === "wgpu" ? "wgpu" : "dawn" } as const;
      const gpu = await openDenoGpu(subgroupMatrix ? as : { ...as, subgroupMatrix });
      // Dawn must not be collected before its devices are, closed ones too.
      this.#benched.push(gpu);
      return gpu;
    };
    return this.#abortable((signal) =>
      benchGpu({
        size,
        configs,
        only,
        open,
        onPhase: (row, what) => report({ phase: { row, what } }),
        onRow: (row) => report({ row }),
        signal,
        tiny: { ...tiny, checkpoint: () => openLocation(tiny.location, { signal }) },
      }),
    );
  }

  /** On a device of its own, like the one that is open, whose choices change. */
  async tune(request: TuneRequest, onCase: Callback<[TuneProgress]>): Promise<TuneResult> {
    const { engine } = this.#device().dialect;
    const gpu = await openDenoGpu({ ...this.#opened, webgpu: engine === "wgpu" ? "wgpu" : "dawn", choices: new TrialChoices() });
    this.#benched.push(gpu);
    try {
      // A report that is lost is no loss.
      const report = (progress: TuneProgress): void => void onCase(progress).catch(() => {});
      return await this.#abortable((signal) => tune(gpu, { ...request, onCase: report, signal }));
    } finally {
      gpu.destroy();
    }
  }

  /** Stops what is running; it then rejects with an AbortError. */
  cancel(): void {
    this.#running?.abort();
  }

  #device(): GpuContext {
    if (!this.#gpu) throw new EngineError("closed", "Cannot use the device: it is not open");
    return this.#gpu;
  }

  async #abortable<T>(work: (signal: AbortSignal, abort: (reason: unknown) => void) => Promise<T>): Promise<T> {
    const controller = new AbortController();
    this.#running = controller;
    try {
      return await work(controller.signal, (reason) => controller.abort(reason));
    } finally {
      if (this.#running === controller) this.#running = undefined;
    }
  }
}

async function openRequested({ location, config, chunks }: LoadRequest, signal?: AbortSignal): Promise<CheckpointSource> {
  const options = signal ? { signal } : {};
  if (!chunks) return openLocation(location, { ...(config && { config }), ...options });
  const { manifest } = parseManifest(chunks.manifestText);
  const sources = location === "" ? [] : [filesSource(directoryFiles(location))];
  const store = location === "" ? diskChunks(chunks.cacheDirectory) : undefined;
  return openCheckpoint(new ChunkedFiles({ manifest, sources: () => sources, ...(store && { store }) }), options);
}

function stageOptions({
  mode,
  kvFormat,
  contextTokens,
  maxTokens,
  maxOutputs,
  maxSequences,
  kvTokens,
  mtp,
  layers,
}: LoadRequest): NonNullable<Parameters<typeof loadLocalStage>[2]> {
  return {
    mode,
    kvFormat,
    contextTokens,
    ...(maxTokens !== undefined && { maxTokens }),
    ...(maxOutputs !== undefined && { maxOutputs }),
    ...(maxSequences !== undefined && { maxSequences }),
    ...(kvTokens !== undefined && { kvTokens }),
    ...(mtp !== undefined && { mtp }),
    ...(layers && { layers }),
  };
}

/** Routed experts of a stage that are served at the other end of a port: all but the first ones of each layer. */
interface ElsewherePort {
  readonly own: number;
  readonly port: MessagePort;
}

async function partlyElsewhere(
  gpu: GpuContext,
  checkpoint: CheckpointSource,
  request: LoadRequest,
  { own, port }: ElsewherePort,
  signal: AbortSignal | undefined,
): Promise<ExpertShard> {
  const shard = remoteShard(portChannel(port), { peer: "whoever has the experts", silenceMs: Number.POSITIVE_INFINITY });
  if (own === 0) return shard;
  const here = { begin: 0, end: own };
  return new PartedExperts([
    { ...here, shard: await loadExpertsOf(gpu, checkpoint, request, here, signal && { signal }) },
    { begin: own, end: checkpoint.config.nRoutedExperts, shard },
  ]);
}

/** Some experts of each MoE layer of the request's. */
function loadExpertsOf(
  gpu: GpuContext,
  checkpoint: CheckpointSource,
  { layers, mode, maxTokens }: LoadRequest,
  { begin, end }: { readonly begin: number; readonly end: number },
  options: { readonly signal?: AbortSignal; readonly ownsGpu?: boolean } = {},
): Promise<LocalExpertShard> {
  const { nDenseLayers, nLayers } = checkpoint.config;
  const first = Math.max(layers?.begin ?? 0, nDenseLayers);
  const experts = Array.from({ length: end - begin }, (_, place) => begin + place);
  return loadLocalExpertShard(gpu, checkpoint, {
    experts: Array.from({ length: (layers?.end ?? nLayers) - first }, (_, place) => ({ layer: first + place, experts })),
    mode,
    ...(maxTokens !== undefined && { maxTokens }),
    ...options,
  });
}

/** All routed experts behind a shard that keeps to its bytes, where the request says how many; undefined where they are part of the stage. */
async function pagedExperts(
  gpu: GpuContext,
  checkpoint: CheckpointSource,
  { expertBytes, maxTokens, mode, mtp }: LoadRequest,
  { signal, onProgress }: Pick<LocalStageOptions, "onProgress" | "signal">,
): Promise<LocalExpertShard | undefined> {
  if (expertBytes === undefined) return undefined;
  const { nDenseLayers, nLayers, nMtpLayers, nRoutedExperts } = checkpoint.config;
  const all = Array.from({ length: nRoutedExperts }, (_, expert) => expert);
  const count = nLayers + (mtp === true ? nMtpLayers : 0) - nDenseLayers;
  return loadLocalExpertShard(gpu, checkpoint, {
    experts: Array.from({ length: count }, (_, place) => ({ layer: nDenseLayers + place, experts: all })),
    budgetBytes: expertBytes,
    mode,
    ...(maxTokens !== undefined && { maxTokens }),
    ...(signal && { signal }),
    ...(onProgress && { onProgress }),
  });
}
