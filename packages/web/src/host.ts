/** The worker's side: storage, a device, a loaded model. Called by the page; one thing at a time. */
import { type CheckpointSource, openCheckpoint, validateCheckpoint } from "@shoal/checkpoint";
import { Generator, type TokenGenerator, samplingOf, stopTokenIds } from "@shoal/engine";
import type { GpuContext } from "@shoal/gpu";
import { openBrowserGpu } from "@shoal/gpu/browser";
import { type LocalStage, checkAdapter, loadLocalStage, memoryRequirements, stagePlan } from "@shoal/model";
import { type ChatTemplate, IncrementalDetokenizer, type Tokenizer, loadChatTemplate, loadTokenizer } from "@shoal/tokenizer";
import type { Remote } from "comlink";
import { type DownloadProgress, downloadModel, missingBytes, storedFiles } from "./download.ts";
import { WebError } from "./errors.ts";
import { MANIFEST_NAME, MAX_MANIFEST_BYTES, type ModelManifest, manifestBytes, parseManifest } from "./manifest.ts";
import type { Answer, AnswerRequest, ModelCheck } from "./protocol.ts";
import { generateThroughLoss } from "./recovery.ts";
import { type ModelStorage, opfsStorage } from "./storage.ts";

/** A callback of the page's. comlink makes every call of it a promise. */
type Callback<Arguments extends unknown[]> = Remote<(...args: Arguments) => void>;

/** Between two reports of progress. */
const PROGRESS_MS = 100;
const KV_FORMAT = "f16";
const DEFAULT_MAX_TOKENS = 1024;

interface Loaded {
  readonly checkpoint: CheckpointSource;
  readonly tokenizer: Tokenizer;
  readonly template: ChatTemplate;
  readonly stops: readonly number[];
}

export class EngineHost {
  readonly #base: URL;
  #gpu: GpuContext | undefined;
  #stage: LocalStage | undefined;
  #generator: TokenGenerator | undefined;
  #loaded: Loaded | undefined;
  #running: AbortController | undefined;

  constructor(base: URL) {
    this.#base = base;
  }

  /** Whether the model fits this device. Reads configs and headers only. */
  async check(): Promise<ModelCheck> {
    this.#gpu ??= await openBrowserGpu();
    const { limits, adapter, dialect } = this.#gpu;
    const { manifest, storage } = await this.#files();
    const stored = await storedFiles(manifest, storage);
    const checkpoint = await openCheckpoint(stored ?? this.#base);
    try {
      const run = { ...stagePlan(checkpoint.config, {}), kvFormat: KV_FORMAT } as const;
      let refusal: string | null = null;
      try {
        checkAdapter(limits, checkpoint, run);
      } catch (error) {
        if (!(error instanceof Error) || error.name !== "AdapterLimitError") throw error;
        refusal = error.message;
      }
      const { quota, usage = 0 } = await navigator.storage.estimate();
      const name = adapter.description || [adapter.vendor, adapter.architecture].filter((part) => part !== "").join(" ");
      return {
        adapter: name || "a GPU without a name",
        isSoftware: adapter.isSoftware,
        f16: dialect.f16,
        gpuBytes: memoryRequirements(checkpoint, run).total,
        refusal,
        downloadBytes: manifestBytes(manifest),
        missingBytes: await missingBytes(manifest, storage),
        storageBytes: quota === undefined ? null : quota - usage,
        contextTokens: run.contextTokens,
      };
    } finally {
      await checkpoint.close();
    }
  }

  /** Goes on where an earlier call ended. */
  async download(onProgress: Callback<[DownloadProgress]>): Promise<void> {
    await this.#abortable(async (signal) => {
      const { manifest, storage } = await this.#files(signal);
      let reportedAt = 0;
      let last: Promise<unknown> = Promise.resolve();
      const report = (progress: DownloadProgress): void => {
        const now = performance.now();
        if (now - reportedAt < PROGRESS_MS && progress.bytes < progress.totalBytes) return;
        reportedAt = now;
        // A report that is lost is no loss.
        last = onProgress(progress).catch(() => {});
      };
      try {
        await downloadModel({ base: this.#base, manifest, storage, onProgress: report, signal });
      } catch (error) {
        if (error instanceof DOMException && error.name === "QuotaExceededError")
          throw new WebError("QuotaError", "Cannot keep the model: the browser has no more room for this site", { cause: error });
        throw error;
      }
      await last;
    });
  }

  async load(): Promise<void> {
    await this.#abortable((signal) => this.#open(signal));
  }

  /** Resolves when all text has been taken by `onText`. */
  async answer(request: AnswerRequest, onText: Callback<[string]>): Promise<Answer> {
    const { messages, max_tokens: maxNewTokens = DEFAULT_MAX_TOKENS, temperature, top_p: topP, top_k: topK, min_p: minP, seed } = request;
    const loaded = this.#loaded;
    if (!this.#generator || !loaded) throw new WebError("RequestError", "Cannot answer: no model is loaded");
    const { tokenizer, template, stops, checkpoint } = loaded;
    if (seed !== undefined && !(Number.isSafeInteger(seed) && seed >= 0))
      throw new WebError("RequestError", `Cannot answer: 'seed' is ${seed}, expected an integer from 0 on`);
    const sampling = samplingOf(
      { temperature, topP, topK, minP, seed: seed === undefined ? randomSeed() : BigInt(seed) },
      checkpoint.generationConfig,
    );
    const promptIds = template.encodeChat(messages, { addGenerationPrompt: true });
    const detokenizer = new IncrementalDetokenizer(tokenizer, { skipSpecialTokens: true });
    const generator = this.#generator;
    return this.#abortable(async (signal) => {
      let text = "";
      let taken: Promise<unknown> = Promise.resolve();
      const give = (piece: string): void => {
        if (piece === "") return;
        text += piece;
        taken = onText(piece).catch(() => {});
      };
      const onTokens = (ids: readonly number[]): void => give(ids.map((id) => detokenizer.push(id)).join(""));
      const reopen = async (): Promise<TokenGenerator> => {
        this.#drop();
        return this.#open(signal);
      };
      const { finishReason, timings } = await generateThroughLoss(generator, reopen, {
        promptIds,
        maxNewTokens,
        sampling,
        stopTokenIds: stops,
        onTokens,
        signal,
      });
      give(detokenizer.finish());
      await taken;
      const { promptTokens, generatedTokens } = timings;
      return {
        text,
        finishReason,
        usage: { prompt_tokens: promptTokens, completion_tokens: generatedTokens, total_tokens: promptTokens + generatedTokens },
        timings: { first_token_ms: timings.firstTokenMs, decode_ms: timings.decodeMs },
      };
    });
  }

  /** Stops what is running; it then rejects with an AbortError. */
  cancel(): void {
    this.#running?.abort();
  }

  async #open(signal: AbortSignal): Promise<TokenGenerator> {
    const { manifest, storage } = await this.#files(signal);
    const files = await storedFiles(manifest, storage);
    if (!files) throw new WebError("DownloadError", "Cannot load the model: it is not downloaded, expected all of its files");
    this.#gpu ??= await openBrowserGpu();
    const checkpoint = await openCheckpoint(files, { signal });
    try {
      validateCheckpoint(checkpoint.config, checkpoint.tensors.tensors, checkpoint.location);
      const { tokenizerJson, tokenizerConfigJson, chatTemplate } = checkpoint;
      if (tokenizerJson === null) throw new WebError("ManifestError", "Cannot chat with this model: it has no 'tokenizer.json'");
      const tokenizer = loadTokenizer({ tokenizerJson, tokenizerConfigJson: tokenizerConfigJson ?? undefined });
      const template = loadChatTemplate(tokenizer, { source: chatTemplate ?? undefined });
      this.#stage = await loadLocalStage(this.#gpu, checkpoint, { kvFormat: KV_FORMAT, signal });
      const generator = await Generator.open(this.#stage);
      this.#generator = generator;
      this.#loaded = { checkpoint, tokenizer, template, stops: stopTokenIds(checkpoint.config, tokenizer) };
      return generator;
    } finally {
      await checkpoint.close();
    }
  }

  /** Of a lost device nothing can be freed. */
  #drop(): void {
    this.#gpu?.destroy();
    this.#gpu = undefined;
    this.#stage = undefined;
    this.#generator = undefined;
  }

  /** The manifest from the network, else the one kept from an earlier visit. */
  async #files(signal?: AbortSignal): Promise<{ readonly manifest: ModelManifest; readonly storage: ModelStorage }> {
    const storage = await opfsStorage(this.#base);
    let text: string;
    try {
      const response = await fetch(new URL(MANIFEST_NAME, this.#base), { cache: "no-cache", ...(signal && { signal }) });
      if (!response.ok) throw new TypeError(`the server answered ${response.status}`);
      const blob = await response.blob();
      if (blob.size > MAX_MANIFEST_BYTES)
        throw new WebError("ManifestError", `Cannot read the model's manifest: it has ${blob.size} bytes`);
      text = await blob.text();
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof TypeError)) throw error;
      const kept = await storage.read(MANIFEST_NAME);
      if (kept === null)
        throw new WebError("DownloadError", `Cannot fetch the model's manifest: ${error.message}; none is kept from an earlier visit`, {
          cause: error,
        });
      return { manifest: parseManifest(await kept.text()), storage };
    }
    const manifest = parseManifest(text);
    if ((await (await storage.read(MANIFEST_NAME))?.text()) === text) return { manifest, storage };
    const file = await storage.open(MANIFEST_NAME);
    try {
      file.clear();
      file.append(new TextEncoder().encode(text));
    } finally {
      file.close();
    }
    return { manifest, storage };
  }

  async #abortable<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    if (this.#running) throw new WebError("RequestError", "Cannot start: the worker is busy, expected one request at a time");
    const controller = new AbortController();
    this.#running = controller;
    try {
      return await work(controller.signal);
    } finally {
      this.#running = undefined;
    }
  }
}

function randomSeed(): bigint {
  return crypto.getRandomValues(new BigUint64Array(1))[0] ?? 0n;
}
