/** One request's life in the engine: what was asked, what is known of the answer, where it stands on the stage, and the caller's end of it. */
import { type SequenceSlot, penalizes } from "@shoal/model";
import type { TokenConstraint } from "./constrained/grammar.ts";
import { EngineError } from "./errors.ts";
import type { StreamDrafts } from "./madeDrafts.ts";
import type { PrefixNode } from "./prefixCache.ts";
import type { EngineRequest, EngineResult, GeneratedToken, RunningRequest } from "./request.ts";

/** A request's place on the stage, while it has one. */
export interface Placement {
  readonly slot: SequenceSlot;
  /** Positions whose ids are known when it is placed: they are computed, or taken from the cache, before tokens are chosen. */
  readonly prefillTokens: number;
  /** Nodes of the prefix cache that it is on. */
  readonly nodes: Set<PrefixNode>;
  /** Blocks of the sequence that belong to the prefix cache. */
  sharedBlocks: number;
  /** Positions of the sequence, submitted steps included; while these chain, as if all their drafts were right. */
  length: number;
  /** Tokens that submitted steps choose, those that are known included; likewise. */
  chosen: number;
  /** Made after its last token, to be verified by its next step. */
  drafts: StreamDrafts | undefined;
}

export class ActiveRequest implements RunningRequest {
  readonly request: EngineRequest;
  readonly result: Promise<EngineResult>;
  /** Ids chosen so far, as known here. */
  readonly generated: number[] = [];
  /** Tokens that it may choose at most: the last need not enter the cache, so a full context still gives one. */
  readonly mostTokens: number;
  readonly #stops: ReadonlySet<number>;
  readonly #submittedAt = performance.now();
  readonly #wake: () => void;
  /** Undefined while it waits for a place. */
  placement: Placement | undefined;
  /** What its tokens must follow, from where they must. */
  constraint: TokenConstraint | undefined;
  /** Tokens of the prompt, after the first, whose log probabilities are known. */
  #scored = 0;
  /** Of the prompt, when it was first placed. */
  cachedTokens: number | undefined;
  #admittedAt = 0;
  #firstTokenAt = 0;
  #lastTokenAt = 0;
  /** Known from its last token on; the caller hears of it by `conclude`. */
  #finished: EngineResult | undefined;
  #outcome: { readonly result: EngineResult } | { readonly error: unknown } | undefined;
  #cancelled: { readonly reason: unknown } | undefined;
  /** Given out by the next turn of the iteration. */
  #ready: GeneratedToken[] = [];
  #hearers: (() => void)[] = [];
  #resolve!: (result: EngineResult) => void;
  #reject!: (error: unknown) => void;
  readonly #onAbort: () => void;

  /** @param wake tells the engine that there is something to do */
  constructor(request: EngineRequest, contextTokens: number, wake: () => void) {
    this.request = request;
    this.mostTokens = Math.min(request.maxNewTokens, contextTokens - request.promptIds.length + 1);
    this.#stops = new Set(request.stopTokenIds);
    this.#wake = wake;
    this.result = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.result.catch(() => {});
    this.#onAbort = () => this.#ask(request.signal?.reason);
    if (request.signal?.aborted) this.#onAbort();
    else request.signal?.addEventListener("abort", this.#onAbort, { once: true });
  }

  /** Of prompt and answer as far as known: what the sequence holds, or must hold again after it lost its place. */
  ids(begin: number, end: number): readonly number[] {
    const { promptIds } = this.request;
    const prompt = promptIds.slice(begin, end);
    return end <= promptIds.length
      ? prompt
      : [...prompt, ...this.generated.slice(Math.max(0, begin - promptIds.length), end - promptIds.length)];
  }

  get knownLength(): number {
    return this.request.promptIds.length + this.generated.length;
  }

  /** Positions that may come from the cache: something must be computed to have logits, and a token's log probability comes of the logits before it. */
  get mostCached(): number {
    return this.request.promptLogprobs === true ? this.#scored : this.knownLength - 1;
  }

  /** Those of the prompt's ids that follow positions `begin .. end` and whose log probabilities are wanted. */
  followers(begin: number, end: number): readonly number[] {
    return this.request.promptLogprobs === true ? this.request.promptIds.slice(begin + 1, end + 1) : [];
  }

  get ended(): boolean {
    return this.#finished !== undefined || this.#outcome !== undefined;
  }

  /** Whether two tokens may be chosen in one step: with penalties the second depends on the first. */
  get takesDrafts(): boolean {
    return !penalizes(this.request.sampling);
  }

  /** Whether its next token must follow a grammar, so that it is only chosen once the one before is known. */
  get bound(): boolean {
    return this.constraint?.binding === true;
  }

  /** Where it is bound: which tokens the next one may be; undefined while that, or the token before, is not known. */
  get mask(): Uint32Array<ArrayBuffer> | undefined {
    return this.placement?.chosen === this.generated.length ? this.constraint?.mask : undefined;
  }

  /** Where it is bound: of its drafts, up to the first that may not follow, which tokens may follow each; undefined while that is not known. */
  get masksAhead(): readonly Uint32Array<ArrayBuffer>[] | undefined {
    return this.constraint?.ahead;
  }

  /** Asked to end, by its signal, `cancel` or the end of an iteration; the engine sees to it. */
  get cancelled(): { readonly reason: unknown } | undefined {
    return this.#cancelled;
  }

  admitted(placement: Placement, cachedTokens: number): void {
    this.placement = placement;
    if (this.cachedTokens !== undefined) return;
    this.cachedTokens = cachedTokens;
    this.#admittedAt = performance.now();
  }

  /** Takes the log probability of the prompt's token at `position`. One that lost its place may hear of it again. */
  takePrompt(position: number, token: GeneratedToken): void {
    if (position !== this.#scored + 1) return;
    this.#scored = position;
    this.#ready.push({ ...token, prompt: true });
    this.#tell();
  }

  /** Whether the answer ends with one of these tokens, which follow what is known of it. */
  endsWith(ids: readonly number[]): boolean {
    return this.generated.length + ids.length >= this.mostTokens || ids.some((id) => this.#stops.has(id));
  }

  /** Takes a token that was chosen. True if the answer ends with it: then `conclude` is due once its place is free. */
  take(token: GeneratedToken): boolean {
    const now = performance.now();
    if (this.generated.length === 0) this.#firstTokenAt = now;
    this.#lastTokenAt = now;
    this.generated.push(token.id);
    if (this.#stops.has(token.id)) {
      this.#finish("stop");
      return true;
    }
    this.#ready.push(token);
    this.#tell();
    if (this.generated.length < this.mostTokens) {
      this.constraint?.accept(token.id);
      return false;
    }
    this.#finish("length");
    return true;
  }

  /** Tells the caller how it ended. */
  conclude(): void {
    const result = this.#finished;
    if (!result || this.#outcome) return;
    this.#outcome = { result };
    this.#settle();
    this.#resolve(result);
  }

  /** Ends it with an error, unless its answer is complete. */
  fail(error: unknown): void {
    if (this.#finished) {
      this.conclude();
      return;
    }
    if (this.#outcome) return;
    this.#outcome = { error };
    this.#settle();
    this.#reject(error);
  }

  async cancel(reason: unknown = new DOMException("The request was cancelled", "AbortError")): Promise<void> {
    this.#ask(reason);
    await this.result.catch(() => {});
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<readonly GeneratedToken[], void, void> {
    try {
      for (;;) {
        if (this.#ready.length > 0) {
          const tokens = this.#ready;
          this.#ready = [];
          yield tokens;
        } else if (this.#outcome) {
          if ("error" in this.#outcome) throw this.#outcome.error;
          return;
        } else await new Promise<void>((resolve) => this.#hearers.push(resolve));
      }
    } finally {
      // Whoever leaves the loop early wants no more of it.
      if (!this.#outcome) await this.cancel();
    }
  }

  #ask(reason: unknown): void {
    if (this.ended || this.#cancelled) return;
    this.#cancelled = { reason };
    this.#wake();
  }

  #finish(finishReason: EngineResult["finishReason"]): void {
    const { promptIds } = this.request;
    this.#finished = {
      finishReason,
      usage: { promptTokens: promptIds.length, cachedTokens: this.cachedTokens ?? 0, completionTokens: this.generated.length },
      timings: {
        queuedMs: this.#admittedAt - this.#submittedAt,
        firstTokenMs: this.#firstTokenAt - this.#submittedAt,
        decodeMs: this.#lastTokenAt - this.#firstTokenAt,
      },
    };
  }

  #settle(): void {
    this.constraint?.close();
    this.request.signal?.removeEventListener("abort", this.#onAbort);
    this.#tell();
  }

  #tell(): void {
    const hearers = this.#hearers;
    this.#hearers = [];
    for (const hear of hearers) hear();
  }
}

/** @throws EngineError named bad-request */
export function checkTokens(name: string, ids: readonly number[], vocabSize: number): void {
  const bad = ids.findIndex((id) => !Number.isSafeInteger(id) || id < 0 || id >= vocabSize);
  if (bad < 0) return;
  throw new EngineError("bad-request", `Cannot run the request: ${name}[${bad}] is ${ids[bad]}, expected an id from 0 to ${vocabSize - 1}`);
}
