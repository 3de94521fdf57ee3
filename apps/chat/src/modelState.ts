/** From opening the page to a model that answers: what is known of the device, what is being fetched, and what went wrong. */
import { signal } from "@preact/signals";
import { type DownloadProgress, Engine, type ModelCheck } from "@shoal/web";

export type Phase =
  | { readonly name: "checking" }
  | { readonly name: "asking"; readonly check: ModelCheck }
  | { readonly name: "downloading"; readonly progress: DownloadProgress | null; readonly bytesPerSecond: number }
  | { readonly name: "paused"; readonly progress: DownloadProgress | null }
  | { readonly name: "loading" }
  | { readonly name: "ready" }
  | { readonly name: "failed"; readonly error: Error };

/** Of the speed that is shown: a mean over this time. */
const SPEED_WINDOW_MS = 3000;

export class ModelState {
  readonly phase = signal<Phase>({ name: "checking" });
  readonly check = signal<ModelCheck | null>(null);
  #engine: Engine | undefined;
  #downloading: AbortController | undefined;

  get engine(): Engine | undefined {
    return this.phase.value.name === "ready" ? this.#engine : undefined;
  }

  /** What is complete from an earlier visit is loaded without asking. */
  async start(): Promise<void> {
    this.phase.value = { name: "checking" };
    this.#engine?.close();
    this.#engine = new Engine(MODEL_URL);
    await this.#guard(async (engine) => {
      const check = await engine.check();
      this.check.value = check;
      if (check.missingBytes > 0 || check.refusal !== null) this.phase.value = { name: "asking", check };
      else await this.#fetchAndLoad(engine);
    });
  }

  /** Also goes on after a pause. */
  async download(): Promise<void> {
    // Refused by many browsers without a reason; the model is then kept as long as there is room.
    await navigator.storage.persist().catch(() => false);
    await this.#guard((engine) => this.#fetchAndLoad(engine));
  }

  pause(): void {
    this.#downloading?.abort();
  }

  async #fetchAndLoad(engine: Engine): Promise<void> {
    const controller = new AbortController();
    this.#downloading = controller;
    let last: DownloadProgress | null = null;
    const seen: { readonly at: number; readonly bytes: number }[] = [];
    this.phase.value = { name: "downloading", progress: null, bytesPerSecond: 0 };
    try {
      await engine.download(
        (progress) => {
          if (controller.signal.aborted) return;
          last = progress;
          const now = performance.now();
          seen.push({ at: now, bytes: progress.fetchedBytes });
          while (seen.length > 2 && now - (seen[0]?.at ?? now) > SPEED_WINDOW_MS) seen.shift();
          const [first = { at: now, bytes: 0 }] = seen;
          const seconds = (now - first.at) / 1000;
          this.phase.value = {
            name: "downloading",
            progress,
            bytesPerSecond: seconds > 0 ? (progress.fetchedBytes - first.bytes) / seconds : 0,
          };
        },
        { signal: controller.signal },
      );
    } catch (error) {
      if (!controller.signal.aborted) throw error;
      this.phase.value = { name: "paused", progress: last };
      return;
    }
    this.phase.value = { name: "loading" };
    await engine.load();
    this.phase.value = { name: "ready" };
  }

  async #guard(work: (engine: Engine) => Promise<void>): Promise<void> {
    if (!this.#engine) return;
    try {
      await work(this.#engine);
    } catch (error) {
      this.phase.value = { name: "failed", error: error instanceof Error ? error : new Error(String(error)) };
    }
  }
}
