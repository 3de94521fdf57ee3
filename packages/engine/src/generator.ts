/**
 * One stream of tokens from a stage. Keeps its sequence between requests, so that a chat's next turn computes only what is new.
 *
 * Prefill goes in chunks, one computed while the next is submitted. Decode is submitted ahead as well: a step takes the token that the step before sampled without
 * asking the CPU, and ids are read in batches, one batch behind. Tokens computed beyond the end are dropped and cut off the cache.
 *
 * Where a device is lost and there is a stage to go on with, prompt and tokens given out so far are computed again there, and the answer goes on.
 */
import { type Stage, type StageDescription, isLoss } from "@shoal/model";
import { untilAborted } from "./abort.ts";
import { CachedSequence } from "./cachedSequence.ts";
import { EngineError } from "./errors.ts";
import type { FinishReason, GenerationRequest, GenerationResult, TokenGenerator } from "./generation.ts";
import { MOST_REOPENS } from "./losses.ts";
import { ReadPacer } from "./readPacer.ts";
import { GREEDY, checkSampling } from "./sampling.ts";

/** Sampled tokens on their way from the device. */
interface Reading {
  readonly count: number;
  readonly ids: Promise<readonly number[]>;
}

export interface GeneratorOptions {
  /** Gives a stage in place of one whose device was lost: the answer goes on there. Without it such a loss ends the request. */
  readonly reopen?: (lost: unknown) => Promise<Stage>;
}

/** An answer so far. */
interface Answer {
  readonly ids: number[];
  firstTokenAt: number;
  cachedTokens: number | undefined;
}

export class Generator implements TokenGenerator {
  readonly #options: GeneratorOptions;
  #stage: Stage;
  #description: StageDescription;
  readonly #pacer = new ReadPacer();
  #sequence: CachedSequence | undefined;
  #busy = false;
  #closed = false;
  /** What must have ended before the sequence is used again: a step that was left behind, and the cutting of the cache. */
  #settling: Promise<void> = Promise.resolve();

  private constructor(stage: Stage, description: StageDescription, options: GeneratorOptions) {
    this.#options = options;
    this.#stage = stage;
    this.#description = description;
  }

  /** The stage is used, not owned: whoever made it destroys it. */
  static async open(stage: Stage, options: GeneratorOptions = {}): Promise<Generator> {
    return new Generator(stage, await stage.describe(), options);
  }

  get contextTokens(): number {
    return this.#description.contextTokens;
  }

  async generate(request: GenerationRequest): Promise<GenerationResult> {
    this.#check(request);
    this.#busy = true;
    let work: Promise<unknown> = Promise.resolve();
    /** Waits for the stage, or for the signal; then what is left of `promise` is waited for before the next request. */
    const wait = <T>(promise: Promise<T>): Promise<T> => {
      work = promise;
      return untilAborted(promise, request.signal);
    };
    try {
      await untilAborted(this.#settling, request.signal);
      return await this.#run(request, wait);
    } finally {
      this.#settling = this.#settle(work);
      this.#busy = false;
    }
  }

  /** Gives the sequence back. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#settling;
    if (this.#sequence) await this.#stage.close(this.#sequence.slot);
  }

  #check({ promptIds, maxNewTokens, sampling, signal }: GenerationRequest): void {
    if (this.#closed) throw new EngineError("closed", "Cannot generate: the generator is closed");
    if (this.#busy) throw new EngineError("busy", "Cannot generate: another request is running, expected one at a time");
    if (promptIds.length === 0) throw new EngineError("bad-request", "Cannot generate: the prompt is empty, expected at least one token");
    const { contextTokens, vocabSize } = this.#description;
    if (promptIds.length > contextTokens)
      throw new EngineError(
        "prompt-too-long",
        `Cannot run the prompt: it has ${promptIds.length} tokens, expected at most ${contextTokens}`,
        {
          actual: promptIds.length,
          expected: contextTokens,
        },
      );
    if (!Number.isSafeInteger(maxNewTokens) || maxNewTokens < 1)
      throw new EngineError("bad-request", `Cannot generate: maxNewTokens is ${maxNewTokens}, expected a positive integer`);
    checkSampling(sampling, vocabSize);
    signal?.throwIfAborted();
  }

  async #run(request: GenerationRequest, wait: <T>(promise: Promise<T>) => Promise<T>): Promise<GenerationResult> {
    const { promptIds, signal } = request;
    const begin = performance.now();
    const answer: Answer = { ids: [], firstTokenAt: 0, cachedTokens: undefined };
    let losses = 0;
    for (;;) {
      const known = answer.ids.length;
      try {
        const finishReason = await this.#answer(request, answer, wait);
        signal?.throwIfAborted();
        const { ids, firstTokenAt, cachedTokens = 0 } = answer;
        const timings = {
          promptTokens: promptIds.length,
          cachedTokens,
          generatedTokens: ids.length + (finishReason === "stop" ? 1 : 0),
          firstTokenMs: firstTokenAt - begin,
          decodeMs: performance.now() - firstTokenAt,
        };
        return { ids, finishReason, timings };
      } catch (error) {
        losses = answer.ids.length > known ? 1 : losses + 1;
        await wait(this.#replaceStage(error, losses));
      }
    }
  }

  /** @throws the loss itself where there is nothing to go on with */
  async #replaceStage(lost: unknown, losses: number): Promise<void> {
    const { reopen } = this.#options;
    if (!reopen || !isLoss(lost) || losses > MOST_REOPENS) throw lost;
    // What it held is gone, or given back by whoever gives another.
    this.#sequence = undefined;
    try {
      const stage = await reopen(lost);
      this.#description = await stage.describe();
      this.#stage = stage;
    } catch (failure) {
      await this.#replaceStage(failure, losses + 1);
    }
  }

  async #answer(request: GenerationRequest, answer: Answer, wait: <T>(promise: Promise<T>) => Promise<T>): Promise<FinishReason> {
    const known = [...request.promptIds, ...answer.ids];
    const sequence = (this.#sequence ??= new CachedSequence(this.#stage, await this.#stage.open()));
    const cachedTokens = await wait(sequence.reuse(known));
    answer.cachedTokens ??= cachedTokens;
    const first = await this.#prefill(sequence, request, answer, known, cachedTokens, wait);
    return this.#decode(sequence, request, answer, first, wait);
  }

  /** Every chunk samples, because reading the sample is how one waits for a chunk: an abort must not find a whole prompt queued on the device. */
  async #prefill(
    sequence: CachedSequence,
    { promptIds, sampling, onPrefill }: GenerationRequest,
    { ids: generatedIds }: Answer,
    known: readonly number[],
    cachedTokens: number,
    wait: <T>(promise: Promise<T>) => Promise<T>,
  ): Promise<Reading> {
    const { maxTokens } = this.#description;
    const total = known.length - cachedTokens;
    let last: Reading | undefined;
    for (let start = cachedTokens; start < known.length; start += maxTokens) {
      // What earlier chunks choose is nobody's token, and no penalty counts it.
      const ends = start + maxTokens >= known.length;
      if (ends) await wait(this.#stage.setSampling(sequence.slot, sampling, { promptIds, generatedIds: [...generatedIds] }));
      else if (!last) await wait(this.#stage.setSampling(sequence.slot, GREEDY));
      const { step } = await wait(sequence.append(known.slice(start, start + maxTokens), "sample"));
      const before = last;
      last = this.#read(step, 1);
      if (!before) continue;
      await wait(before.ids);
      if (generatedIds.length === 0) onPrefill?.(start - cachedTokens, total);
    }
    if (!last) throw new EngineError("bad-request", "Cannot generate: nothing of the prompt is left to compute");
    return last;
  }

  async #decode(
    sequence: CachedSequence,
    { promptIds, maxNewTokens, stopTokenIds, onTokens, onPrefill }: GenerationRequest,
    answer: Answer,
    first: Reading,
    wait: <T>(promise: Promise<T>) => Promise<T>,
  ): Promise<FinishReason> {
    // The last token need not enter the cache, so a full context still gives one.
    const most = Math.min(maxNewTokens, this.#description.contextTokens - promptIds.length + 1);
    const stops = new Set(stopTokenIds);
    const { ids } = answer;
    let submitted = ids.length + 1;
    let arrivedAt = 0;
    const flight: Reading[] = [first];
    for (;;) {
      if (submitted < most && flight.length < 2) {
        const count = Math.min(this.#pacer.steps, most - submitted);
        flight.push(await this.#submit(sequence, count, wait));
        submitted += count;
      }
      const reading = flight.shift();
      if (!reading) return "length";
      const arrived = await wait(reading.ids);
      const now = performance.now();
      if (answer.firstTokenAt === 0) {
        answer.firstTokenAt = now;
        onPrefill?.(promptIds.length, promptIds.length);
      } else if (arrivedAt > 0) this.#pacer.record(reading.count, now - arrivedAt);
      arrivedAt = now;
      const stop = arrived.findIndex((id) => stops.has(id));
      const kept = stop < 0 ? arrived : arrived.slice(0, stop);
      // The stop token is part of the chat's next prompt: it stays in the cache, if it got there.
      for (const id of stop < 0 ? arrived : arrived.slice(0, stop + 1)) sequence.learn(id);
      ids.push(...kept);
      if (kept.length > 0) onTokens?.(kept);
      if (stop >= 0) return "stop";
    }
  }

  async #submit(sequence: CachedSequence, count: number, wait: <T>(promise: Promise<T>) => Promise<T>): Promise<Reading> {
    let first = 0;
    for (let i = 0; i < count; i++) {
      const { step } = await wait(sequence.appendSampled());
      if (i === 0) first = step;
    }
    return this.#read(first, count);
  }

  /** Starts reading right behind the steps, before more are submitted: the device would otherwise finish those first. */
  #read(first: number, count: number): Reading {
    const ids = this.#stage.sampled(first, count).then((steps) => steps.map(([id = 0]) => id));
    // It may be dropped unread, by an abort or after the last token.
    ids.catch(() => {});
    return { count, ids };
  }

  async #settle(work: Promise<unknown>): Promise<void> {
    await work.catch(() => {});
    try {
      await this.#sequence?.settle();
    } catch {
      // A stage that cannot even cut a sequence says why at the next request; that one starts from nothing.
      const sequence = this.#sequence;
      this.#sequence = undefined;
      if (sequence) await this.#stage.close(sequence.slot).catch(() => {});
    }
  }
}
