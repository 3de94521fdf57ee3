/** The worker's side: storage, a device, a loaded model. Called by the page; checking, downloading and loading are one thing at a time, requests are many. */
import { type CheckpointSource, openCheckpoint, parseConfigText } from "@shoal/checkpoint";
import type { GpuContext } from "@shoal/gpu";
import { openBrowserGpu } from "@shoal/gpu/browser";
import type { KernelTimes } from "@shoal/model/profile";
import { releaseProxy, transfer } from "comlink";
import { downloadModel, missingBytes, storedFiles } from "./download.ts";
import { WebError } from "./errors.ts";
import { Exchanges } from "./exchanges.ts";
import { type Estimate, estimate } from "./estimate.ts";
import { type Kept, keptModel, openModel } from "./kept.ts";
import { whileLocked } from "./lock.ts";
import { LISTING_NAME, type ModelListing, listingText, manifestBytes } from "./manifest.ts";
import type {
  DownloadProgress,
  Inspection,
  LoadOptions,
  LoadProgress,
  ModelCheck,
  ModelSource,
  PortRequest,
  PortResponse,
} from "./protocol.ts";
import { Session } from "./session.ts";
import { fileUrl, sourceName } from "./sources.ts";
import { type ModelStorage, modelLock } from "./storage.ts";
import { type Callback, throttled } from "./throttled.ts";

/** Freed when it is of no more use. */
type OwnCallback<Arguments extends unknown[]> = Callback<Arguments> & { [releaseProxy]?: () => void };

const MAX_CONFIG_BYTES = 4 * 2 ** 20;

interface Needs extends Estimate, Pick<ModelCheck, "downloadBytes" | "missingBytes" | "streams"> {
  /** Whether anything can be kept at all. */
  readonly keeps: boolean;
}

export class EngineHost {
  #source: ModelSource | undefined;
  #gpu: GpuContext | undefined;
  #session: Session | undefined;
  #running: AbortController | undefined;
  readonly #exchanges = new Exchanges((request) => this.#loaded().answer(request));

  /** Which model is meant from now on. */
  use(source: ModelSource): void {
    this.#source = source;
  }

  /** Whether the model fits this device. Reads configs and headers only. */
  async check(): Promise<ModelCheck> {
    return this.#abortable(async (signal) => {
      const gpu = await this.#device();
      const { quota, usage = 0 } = await navigator.storage.estimate();
      const { limits, adapter, dialect } = gpu;
      const description = adapter.description || [adapter.vendor, adapter.architecture].filter((part) => part !== "").join(" ");
      const { keeps, ...needs } = await this.#needs(gpu, signal);
      return {
        ...needs,
        model: sourceName(this.#given()),
        adapter: description || "a GPU without a name",
        isSoftware: adapter.isSoftware,
        f16: dialect.f16,
        limits: { maxBufferSize: limits.maxBufferSize, maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize },
        storageBytes: !keeps ? 0 : quota === undefined ? null : Math.max(0, quota - usage),
        persisted: await navigator.storage.persisted(),
      };
    });
  }

  /** Goes on where an earlier call ended. One tab at a time fetches a model: others wait, and go on where it stopped. */
  async download(onProgress: OwnCallback<[DownloadProgress]>): Promise<void> {
    const source = this.#given();
    if (source.kind === "files") return;
    await this.#abortable(async (signal) => {
      const report = throttled(onProgress, ({ bytes, totalBytes }: DownloadProgress) => bytes >= totalBytes);
      const kept = await keptModel(source, signal);
      const totalBytes = manifestBytes(kept.listing.files);
      const look = async (): Promise<void> => {
        const bytes = totalBytes - (await missingBytes(kept.listing.files, kept.storage));
        report.now({ bytes, totalBytes, fetchedBytes: 0, elsewhere: true });
      };
      try {
        await whileLocked(modelLock(kept.id), signal, look, () => this.#fetch(kept, report, signal));
      } catch (error) {
        if (error instanceof DOMException && error.name === "QuotaExceededError")
          throw new WebError("QuotaError", "Cannot keep the model: the browser has no more room for this site", { cause: error });
        throw error;
      } finally {
        await report.last();
        onProgress[releaseProxy]?.();
      }
    });
  }

  async load(onProgress: OwnCallback<[LoadProgress]>, { stream = false, spread, expertBytes }: LoadOptions): Promise<void> {
    const source = this.#given();
    await this.#abortable(async (signal) => {
      const report = throttled(onProgress, ({ loadedBytes, totalBytes }: LoadProgress) => loadedBytes >= totalBytes);
      let progress: ((value: LoadProgress) => void) | undefined = report;
      this.#session?.destroy();
      this.#session = undefined;
      const session = new Session({
        name: sourceName(source),
        openGpu: () => this.#device(),
        openCheckpoint: (aborting) => openModel(source, stream, aborting),
        openSecond: async () => (await import("./secondDevice.ts")).openSecondDevice(navigator.gpu, source, stream),
        spread: spread ?? "if-needed",
        ...(expertBytes !== undefined && { expertBytes }),
        onProgress: (value) => progress?.(value),
      });
      try {
        await session.load(signal);
      } catch (error) {
        session.destroy();
        this.#gpu = undefined;
        throw error;
      } finally {
        await report.last();
        // Another device may be loaded later, with nobody to look on.
        progress = undefined;
        onProgress[releaseProxy]?.();
      }
      this.#session = session;
    });
  }

  /** The server's API. Its body is read piece by piece by `read`. @param id the caller's number for it */
  fetch(id: number, request: PortRequest): Promise<PortResponse> {
    return this.#exchanges.fetch(id, request);
  }

  /** Null at the end of the body. */
  async read(id: number): Promise<Uint8Array<ArrayBuffer> | null> {
    const bytes = await this.#exchanges.read(id);
    return bytes && transfer(bytes, [bytes.buffer]);
  }

  /** Nobody wants the rest of it. */
  leave(id: number): Promise<void> {
    return this.#exchanges.leave(id);
  }

  inspect(watching: boolean): Inspection {
    return this.#loaded().inspect(watching);
  }

  kernelTimes(): Promise<KernelTimes | null> {
    return this.#loaded().kernelTimes();
  }

  fault(): string | null {
    return this.#session?.fault ?? null;
  }

  /** Stops checking, downloading or loading; that then rejects with an AbortError. */
  cancel(): void {
    this.#running?.abort();
  }

  async #device(): Promise<GpuContext> {
    // One that was closed or lost is of no use.
    try {
      this.#gpu?.check();
    } catch {
      this.#gpu = undefined;
    }
    this.#gpu ??= await openBrowserGpu();
    return this.#gpu;
  }

  async #needs(gpu: GpuContext, signal: AbortSignal): Promise<Needs> {
    const source = this.#given();
    if (source.kind === "files") return { ...(await fromHeaders(gpu, openCheckpoint(source.files, { signal }))), ...NOTHING_TO_FETCH };
    const { listing, storage } = await keptModel(source, signal);
    const downloadBytes = manifestBytes(listing.files);
    const stored = await storedFiles(listing.files, storage);
    if (stored)
      return {
        ...(await fromHeaders(gpu, openCheckpoint(stored, { signal }))),
        downloadBytes,
        missingBytes: 0,
        streams: true,
        keeps: true,
      };
    const missing = { downloadBytes, missingBytes: await missingBytes(listing.files, storage), keeps: storage.refusal === undefined };
    try {
      return { ...(await fromHeaders(gpu, openCheckpoint(listing.base, { signal }))), ...missing, streams: true };
    } catch (error) {
      if (!isAboutRanges(error)) throw error;
      // The config tells as much, unless the files are not what it says.
      return { ...estimate(gpu, await fetchConfig(listing, signal)), ...missing, streams: false };
    }
  }

  async #fetch({ listing, storage }: Kept, report: (progress: DownloadProgress) => void, signal: AbortSignal): Promise<void> {
    let current = listing;
    const keep = (next: ModelListing): Promise<void> => {
      current = next;
      return writeText(storage, LISTING_NAME, listingText(next));
    };
    if ((await (await storage.read(LISTING_NAME))?.text()) !== listingText(listing)) await keep(listing);
    for (const name of await storage.names()) if (name !== LISTING_NAME && !listing.files.has(name)) await storage.remove(name);
    await downloadModel({
      base: new URL(listing.base),
      manifest: listing.files,
      storage,
      onProgress: (progress) => report({ ...progress, elsewhere: false }),
      onDigest: (name, sha256) => {
        const bytes = listing.files.get(name)?.bytes ?? 0;
        const { gitSha1 } = listing.files.get(name) ?? {};
        return keep({ ...current, files: new Map(current.files).set(name, { bytes, sha256, ...(gitSha1 !== undefined && { gitSha1 }) }) });
      },
      signal,
    });
  }

  #given(): ModelSource {
    if (!this.#source) throw new WebError("SourceError", "Cannot start: no model was named");
    return this.#source;
  }

  #loaded(): Session {
    if (!this.#session) throw new WebError("RequestError", "Cannot answer: no model is loaded");
    return this.#session;
  }

  async #abortable<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    if (this.#running) throw new WebError("BusyError", "Cannot start: the worker is busy, expected it to have ended what it does");
    const controller = new AbortController();
    this.#running = controller;
    try {
      return await work(controller.signal);
    } finally {
      this.#running = undefined;
    }
  }
}

const NOTHING_TO_FETCH = { downloadBytes: 0, missingBytes: 0, streams: false, keeps: true } as const;

async function fromHeaders(gpu: GpuContext, opening: Promise<CheckpointSource>): Promise<Estimate> {
  const checkpoint = await opening;
  try {
    return estimate(gpu, checkpoint.config, checkpoint.tensors);
  } finally {
    await checkpoint.close();
  }
}

/** Of a server that serves no ranges, or does not let this page see that it does. */
function isAboutRanges(error: unknown): boolean {
  const code: unknown = error instanceof Error && error.name === "SafetensorsError" && "code" in error ? error.code : undefined;
  return code === "range-unsupported" || code === "content-range";
}

async function fetchConfig({ base }: ModelListing, signal: AbortSignal): Promise<ReturnType<typeof parseConfigText>> {
  const response = await fetch(fileUrl("config.json", new URL(base)), { signal });
  const text = response.ok ? await response.text() : "";
  if (text === "" || text.length > MAX_CONFIG_BYTES)
    throw new WebError(
      "DownloadError",
      `Cannot read the model's config: the server answered ${response.status} with ${text.length} characters`,
    );
  return parseConfigText(text, "config.json");
}

async function writeText(storage: ModelStorage, name: string, text: string): Promise<void> {
  const file = await storage.open(name);
  try {
    file.clear();
    file.append(new TextEncoder().encode(text));
  } finally {
    file.close();
  }
}
