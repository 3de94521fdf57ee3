/**
 * A stage whose model is a rule: the next token follows from the whole sequence. It checks what a real stage would (lengths, open sequences), keeps a log of
 * calls, and reads only when `sampled` is awaited.
 */
import {
  type Batch,
  type SamplingParameters,
  type SequenceSlot,
  type Stage,
  type StageDescription,
  type StepOutput,
  type TokenHistory,
  penalizes,
} from "@shoal/model";

export interface FakeStageOptions {
  readonly contextTokens?: number;
  readonly maxTokens?: number;
  /** The token after these. */
  readonly rule: (ids: readonly number[]) => number;
  /** Awaited by every read. */
  readonly beforeRead?: (step: number) => Promise<void>;
}

export class FakeStage implements Stage {
  readonly log: string[] = [];
  /** What the cache holds. */
  ids: number[] = [];
  closed = 0;
  destroyed = false;
  sampling: SamplingParameters | undefined;
  /** What `setSampling` was told of penalties, and how many tokens the sequence had then. */
  readonly histories: { readonly penalizes: boolean; readonly length: number; readonly history: TokenHistory | undefined }[] = [];
  /** Thrown by the next `forward`. */
  failure: Error | undefined;
  readonly #options: FakeStageOptions;
  readonly #samples: number[] = [];
  #open = false;

  constructor(options: FakeStageOptions) {
    this.#options = options;
  }

  get steps(): number {
    return this.#samples.length;
  }

  describe(): Promise<StageDescription> {
    const { contextTokens = 64, maxTokens = 4 } = this.#options;
    return Promise.resolve({
      layers: { begin: 0, end: 1 },
      hasEmbedding: true,
      hasHead: true,
      hasMtp: false,
      maxDrafts: 0,
      chainsDrafts: false,
      vocabSize: 1 << 20,
      contextTokens,
      maxSequences: 1,
      maxTokens,
      maxOutputs: 1,
      memory: {},
      freeKvBlocks: 1,
      kvBlockSize: contextTokens,
    });
  }

  open(): Promise<SequenceSlot> {
    if (this.#open) throw new Error("all sequences are in use");
    this.#open = true;
    this.ids = [];
    this.log.push("open");
    return Promise.resolve(0 as SequenceSlot);
  }

  truncate(_sequence: SequenceSlot, length: number): Promise<void> {
    if (length > this.ids.length) return Promise.reject(new Error(`cannot truncate ${this.ids.length} to ${length}`));
    this.ids.length = length;
    this.log.push(`truncate ${length}`);
    return Promise.resolve();
  }

  close(): Promise<void> {
    this.#open = false;
    this.closed++;
    return Promise.resolve();
  }

  setSampling(_sequence: SequenceSlot, parameters: SamplingParameters, history?: TokenHistory): Promise<void> {
    this.sampling = parameters;
    this.histories.push({ penalizes: penalizes(parameters), length: this.ids.length, history });
    return Promise.resolve();
  }

  forward({ entries: [entry], output }: Batch): Promise<StepOutput> {
    const { contextTokens = 64, maxTokens = 4 } = this.#options;
    const { failure } = this;
    if (failure) {
      this.failure = undefined;
      return Promise.reject(failure);
    }
    if (!entry || output !== "sample") return Promise.reject(new Error("expected one entry and a sample"));
    const last = this.#samples.at(-1);
    const ids = entry.tokens === "sampled" ? [last ?? -1] : entry.tokens;
    if (ids.length === 0 || ids.length > maxTokens) return Promise.reject(new Error(`a step of ${ids.length} tokens`));
    if (this.ids.length + ids.length > contextTokens) return Promise.reject(new Error("the context is full"));
    this.ids.push(...ids);
    this.log.push(entry.tokens === "sampled" ? "step" : `prefill ${ids.length}`);
    this.#samples.push(this.#options.rule(this.ids));
    return Promise.resolve({ step: this.#samples.length - 1 });
  }

  draft(): Promise<StepOutput> {
    return Promise.reject(new Error("no MTP"));
  }

  drafted(): Promise<never> {
    return Promise.reject(new Error("no MTP"));
  }

  retain(): Promise<never> {
    return Promise.reject(new Error("no blocks are shared here"));
  }

  release(): Promise<never> {
    return Promise.reject(new Error("no blocks are shared here"));
  }

  exportKv(): Promise<never> {
    return Promise.reject(new Error("nothing is moved here"));
  }

  importKv(): Promise<never> {
    return Promise.reject(new Error("nothing is moved here"));
  }

  logprobs(): Promise<never> {
    return Promise.reject(new Error("nobody asks for these"));
  }

  async sampled(first: number, count: number): Promise<readonly (readonly number[])[]> {
    if (count < 1 || first + count > this.#samples.length) throw new Error(`steps ${first} to ${first + count} are not there`);
    if (this.#samples.length - first > 64) throw new Error(`step ${first} is no longer kept`);
    const ids = this.#samples.slice(first, first + count).map((id) => [id]);
    for (let step = first; step < first + count; step++) await this.#options.beforeRead?.(step);
    return ids;
  }

  destroy(): Promise<void> {
    this.destroyed = true;
    return Promise.resolve();
  }
}
