/** From opening the page to a model that answers: which one, what is known of the device, what is being fetched, and what went wrong. */
import { signal } from "@preact/signals";
import { type DownloadProgress, Engine, type LoadProgress, type ModelCheck, type ModelSource } from "@shoal/web";
import { Speed } from "./models/speed.ts";
import { savedShare, savedSource, saveSource } from "./models/savedSource.ts";
import { OtherTabs } from "./models/otherTabs.ts";

export type Phase =
  /** Nothing is loaded here: something else answers. */
  | { readonly name: "idle" }
  | { readonly name: "checking" }
  | { readonly name: "asking"; readonly check: ModelCheck }
  | { readonly name: "downloading"; readonly progress: DownloadProgress | null; readonly bytesPerSecond: number }
  | { readonly name: "paused"; readonly progress: DownloadProgress | null }
  | { readonly name: "loading"; readonly progress: LoadProgress | null }
  | { readonly name: "ready" }
  /** Another tab wanted the GPU for itself. */
  | { readonly name: "given-away" }
  | { readonly name: "failed"; readonly during: "check" | "download" | "load"; readonly error: Error; readonly otherTabs: number };

const SPEED_MS = 1000;

/** The model that comes with the page. */
export const EMBEDDED = { kind: "folder", url: new URL(MODEL_URL, location.href).href } as const;

export function isEmbedded(source: ModelSource): boolean {
  return source.kind === "folder" && source.url === EMBEDDED.url;
}

export class ModelState {
  readonly phase = signal<Phase>({ name: "idle" });
  readonly source = signal<ModelSource>(EMBEDDED);
  readonly check = signal<ModelCheck | null>(null);
  /** Whether the browser promised to keep what is downloaded; null before it was asked. */
  readonly promised = signal<boolean | null>(null);
  /** Of the model's experts, how many may be on the GPU; 1: as many as fit. */
  readonly expertShare = signal(1);
  readonly #tabs: OtherTabs;
  #engine: Engine | undefined;
  #downloading: AbortController | undefined;

  constructor() {
    this.#tabs = new OtherTabs(() => {
      if (!this.#engine) return;
      this.unload();
      this.phase.value = { name: "given-away" };
    });
  }

  get engine(): Engine | undefined {
    return this.phase.value.name === "ready" ? this.#engine : undefined;
  }

  /** With the model of the last visit. What is complete is loaded without asking. */
  async start(): Promise<void> {
    this.source.value = (await savedSource()) ?? EMBEDDED;
    this.expertShare.value = await savedShare();
    await this.begin();
  }

  /** Another model from now on, and on later visits, unless it lies in files of this machine, which have to be picked each time. */
  async choose(source: ModelSource): Promise<void> {
    this.source.value = source;
    await this.allowExperts(1);
  }

  /** Loads the model anew, with so many of its experts on the GPU, the others being read when a token needs them; on later visits too. */
  async allowExperts(share: number): Promise<void> {
    this.expertShare.value = share;
    const source = this.source.value;
    if (source.kind !== "files") await saveSource(source, share).catch(() => {});
    await this.begin();
  }

  async begin(): Promise<void> {
    this.unload();
    this.phase.value = { name: "checking" };
    this.check.value = null;
    const engine = new Engine(this.source.value);
    this.#engine = engine;
    void engine.ended.then((error) => {
      if (this.#engine !== engine) return;
      this.#tabs.leave();
      this.phase.value = { name: "failed", during: "load", error, otherTabs: 0 };
    });
    await this.#guard("check", engine, async () => {
      const check = await engine.check();
      if (this.#engine !== engine) return;
      this.check.value = check;
      if (check.missingBytes > 0 || check.refusal !== null) this.phase.value = { name: "asking", check };
      else await this.#fetchAndLoad(engine);
    });
  }

  /** Begins, and goes on after a pause or a failure. To be called by a click: browsers may want one before they promise to keep anything. */
  async download(): Promise<void> {
    const engine = this.#engine;
    if (!engine) return;
    // Refused by many browsers without a reason; the model is then kept as long as there is room.
    this.promised.value = await navigator.storage.persist().catch(() => false);
    await this.#guard("download", engine, () => this.#fetchAndLoad(engine));
  }

  /** Keeps nothing: for where there is no room. */
  async stream(): Promise<void> {
    const engine = this.#engine;
    if (engine) await this.#guard("load", engine, () => this.#load(engine, true));
  }

  pause(): void {
    this.#downloading?.abort();
  }

  /** Asks the other tabs of this page to free the GPU, then tries again. */
  async takeOver(): Promise<void> {
    await this.#tabs.free();
    await this.begin();
  }

  /** Frees the GPU. */
  unload(): void {
    this.#downloading?.abort();
    this.#engine?.close();
    this.#engine = undefined;
    this.#tabs.leave();
    this.phase.value = { name: "idle" };
  }

  async #fetchAndLoad(engine: Engine): Promise<void> {
    const controller = new AbortController();
    this.#downloading = controller;
    let last: DownloadProgress | null = null;
    const speed = new Speed();
    this.phase.value = { name: "downloading", progress: null, bytesPerSecond: 0 };
    const show = (progress: DownloadProgress): void => {
      if (controller.signal.aborted || this.#engine !== engine) return;
      last = progress;
      this.phase.value = { name: "downloading", progress, bytesPerSecond: speed.add(progress.fetchedBytes) };
    };
    // Where nothing comes the speed falls, too.
    const again = setInterval(() => last && show(last), SPEED_MS);
    try {
      await engine.download(show, { signal: controller.signal });
    } catch (error) {
      if (!controller.signal.aborted) throw error;
      if (this.#engine === engine) this.phase.value = { name: "paused", progress: last };
      return;
    } finally {
      clearInterval(again);
    }
    await this.#guard("load", engine, () => this.#load(engine, false));
  }

  async #load(engine: Engine, stream: boolean): Promise<void> {
    this.phase.value = { name: "loading", progress: null };
    await this.#tabs.enter();
    const report = (progress: LoadProgress): void => {
      if (this.#engine === engine && this.phase.value.name === "loading") this.phase.value = { name: "loading", progress };
    };
    const share = this.expertShare.value;
    const experts = this.check.value?.experts;
    await engine.load(report, { stream, ...(experts && share < 1 && { expertBytes: Math.ceil(experts.bytes * share) }) });
    if (this.#engine === engine) this.phase.value = { name: "ready" };
  }

  async #guard(during: "check" | "download" | "load", engine: Engine, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (thrown) {
      // Of an engine that was closed on purpose nobody wants to hear.
      if (this.#engine !== engine) return;
      const error = thrown instanceof Error ? thrown : new Error(String(thrown));
      const otherTabs = during === "load" ? await this.#tabs.count() : 0;
      if (during === "load") this.#tabs.leave();
      this.phase.value = { name: "failed", during, error, otherTabs };
    }
  }
}
