/**
 * The page's side of the text worker: a queue, text that is being read before all else. A job that takes too long costs the worker its life, not the page: a new one
 * does the next.
 */
import type { Job, JobName, Jobs, Results, WorkerAnswer } from "./jobs.ts";

/** On a busy machine a job of milliseconds may wait for seconds until it runs. */
const PATIENCE_MS = 8000;
const KEPT = 500;

interface Waiting {
  readonly job: Job;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
}

export class TextWorker {
  readonly #start: () => Worker;
  readonly #results = new Map<string, Promise<unknown>>();
  readonly #texts = new Map<string, Results["parse"]>();
  readonly #parsing: Waiting[] = [];
  readonly #others: Waiting[] = [];
  #worker: Worker | undefined;
  #isReady = false;
  #running: Waiting | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** The worker is started with the first job. */
  constructor(start: () => Worker = startWorker) {
    this.#start = start;
  }

  async parse(job: Jobs["parse"]): Promise<Results["parse"]> {
    const parsed = await this.#do("parse", job);
    if (!job.unfinished) keep(this.#texts, job.text, parsed);
    return parsed;
  }

  /** A finished text that was parsed not long ago: a conversation that is opened again is there at once. */
  known(text: string): Results["parse"] | undefined {
    return this.#texts.get(text);
  }

  /** Results are kept: the same code and formulas come again with every visit of a conversation. */
  highlight(job: Jobs["highlight"]): Promise<Results["highlight"]> {
    return this.#keep("highlight", job);
  }

  math(job: Jobs["math"]): Promise<Results["math"]> {
    return this.#keep("math", job);
  }

  #keep<Name extends JobName>(name: Name, job: Jobs[Name]): Promise<Results[Name]> {
    const key = JSON.stringify([name, job]);
    const result = (this.#results.get(key) as Promise<Results[Name]> | undefined) ?? this.#do(name, job);
    keep(this.#results, key, result);
    return result;
  }

  #do<Name extends JobName>(name: Name, job: Jobs[Name]): Promise<Results[Name]> {
    return new Promise((resolve, reject) => {
      const waiting: Waiting = { job: { name, job } as Job, resolve: resolve as Waiting["resolve"], reject };
      (name === "parse" ? this.#parsing : this.#others).push(waiting);
      this.#next();
    });
  }

  #next(): void {
    if (this.#running || (this.#parsing.length === 0 && this.#others.length === 0)) return;
    const worker = (this.#worker ??= this.#open());
    if (!this.#isReady) return;
    const next = this.#parsing.shift() ?? this.#others.shift();
    if (!next) return;
    this.#running = next;
    this.#timer = setTimeout(() => this.#end(new Error("Cannot show this text as it is meant: it takes too long")), PATIENCE_MS);
    // A worker's messages have no target origin.
    // oxlint-disable-next-line unicorn/require-post-message-target-origin
    worker.postMessage(next.job);
  }

  #open(): Worker {
    const worker = this.#start();
    worker.addEventListener("message", ({ data }: MessageEvent<WorkerAnswer>) => {
      if (data === "ready") this.#isReady = true;
      else {
        clearTimeout(this.#timer);
        const done = this.#running;
        this.#running = undefined;
        if ("error" in data) done?.reject(new Error(data.error));
        else done?.resolve(data.result);
      }
      this.#next();
    });
    worker.addEventListener("error", ({ message }) => this.#end(new Error(`Cannot show this text as it is meant: ${message}`)));
    return worker;
  }

  /** One that never began to work fails all that wait for it: they would wait for ever. */
  #end(error: Error): void {
    clearTimeout(this.#timer);
    this.#worker?.terminate();
    this.#worker = undefined;
    const failed = this.#isReady ? [this.#running] : [...this.#parsing.splice(0), ...this.#others.splice(0)];
    this.#isReady = false;
    this.#running = undefined;
    for (const one of failed) one?.reject(error);
    this.#next();
  }
}

/** The one that was asked for the longest ago goes. */
function keep<T>(kept: Map<string, T>, key: string, value: T): void {
  kept.delete(key);
  kept.set(key, value);
  const [oldest] = kept.keys();
  if (kept.size > KEPT && oldest !== undefined) kept.delete(oldest);
}

function startWorker(): Worker {
  return new Worker(new URL("./text.worker.ts", import.meta.url), { type: "module", name: "text" });
}
