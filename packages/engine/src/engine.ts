/**
 * Many requests at once over one stage. Each turn computes one step: a token for every running stream and, with what is left of the step's budget, chunks of prompts
 * (schedule.ts). Steps are submitted ahead of the reader (readings.ts); KV blocks are shared through the prefix cache (blocks.ts). When blocks run out the youngest request
 * gives its place up and computes its tokens again later, which nobody sees but the clock.
 */
import { type Stage, type StageDescription, TOP_LOGPROBS, isLoss } from "@shoal/model";
import { ActiveRequest, type Placement, checkTokens } from "./activeRequest.ts";
import { BlockLedger } from "./blocks.ts";
import type { ConstraintSource } from "./constrained/grammar.ts";
import { EngineError } from "./errors.ts";
import { MOST_REOPENS } from "./losses.ts";
import type { MadeDrafts } from "./madeDrafts.ts";
import { settle, submitChained } from "./chainedStep.ts";
import { type KnownTokens, Readings } from "./readings.ts";
import type { EngineRequest, EngineStatus, InferenceEngine, RunningRequest } from "./request.ts";
import { checkSampling } from "./sampling.ts";
import { type Placed, type ScheduledEntry, type ScheduledStep, isDecode, rowCount, schedule } from "./schedule.ts";
import { SpeculationPacer, countDrafts } from "./speculation.ts";
import { batchOf, rowsOf } from "./stepBatch.ts";
import { chooseAndDraft } from "./verifiedStep.ts";

export interface EngineOptions {
  /** Most tokens computed in one step; by default, and at most, what the stage allows. */
  readonly stepTokens?: number;
  /** Whether prompts may begin with KV blocks of earlier requests; true by default. */
  readonly prefixCache?: boolean;
  /**
   * How many tokens the model's MTP module may draft for a stream in each step: as many as turns out fastest from `least`, 0 by default, to `most`, by default what the stage allows.
   * Or none at all: false.
   */
  readonly drafts?: false | { readonly least?: number; readonly most?: number };
  /** Makes constraints of requests that have one; without it they are refused. */
  readonly constraints?: ConstraintSource;
  /** Gives a stage in place of one whose device was lost: what ran goes on there. Without it such a loss ends every request. */
  readonly reopen?: (lost: unknown) => Promise<Stage>;
}

/**
 * Where steps that draft wait for one another, tokens of an answer before drafts are made for it, if that is the engine's choice: a short one ends before they have paid for the module's run
 * over its prompt, and for the change from steps that do without.
 */
const TOKENS_BEFORE_DRAFTS = 16;
/** Where they do not, of how many tokens an answer may be at least: one of fewer ends before the first drafts, those after its prompt, have paid. */
const LEAST_TOKENS = 8;

export class Engine implements InferenceEngine {
  readonly #options: EngineOptions;
  #stage: Stage;
  #description: StageDescription;
  #blocks: BlockLedger;
  #readings: Readings;
  /** In the order of their admission. */
  #running: Placed[] = [];
  /** Those who lost their place first, then first come, first served. */
  #waiting: ActiveRequest[] = [];
  #totals: EngineStatus["totals"] = {
    requests: 0,
    promptTokens: 0,
    cachedTokens: 0,
    completionTokens: 0,
    preemptions: 0,
    steps: 0,
    draftTokens: 0,
    acceptedDraftTokens: 0,
  };
  /** Why nothing can be submitted any more. */
  #ended: Error | undefined;
  #closing = false;
  #reopens = 0;
  readonly #speculation: SpeculationPacer;
  /** When the step before was done, if that made drafts. */
  #draftedAt: number | undefined;
  #wake: () => void = () => {};
  #idle: (() => void)[] = [];
  readonly #loop: Promise<void>;

  private constructor(stage: Stage, description: StageDescription, options: EngineOptions) {
    this.#options = options;
    this.#stage = stage;
    this.#description = description;
    this.#blocks = new BlockLedger(stage, description, options.prefixCache ?? true);
    this.#readings = new Readings(stage);
    this.#speculation = new SpeculationPacer(description.maxDrafts, description.chainsDrafts ? 1 : 0);
    this.#loop = this.#run();
  }

  /** The stage is used, not owned, and must have no open sequences: whoever made it destroys it. */
  static async open(stage: Stage, options: EngineOptions = {}): Promise<Engine> {
    return new Engine(stage, await stage.describe(), options);
  }

  submit(request: EngineRequest): RunningRequest {
    if (this.#ended) throw this.#ended;
    this.#check(request);
    const active = new ActiveRequest(request, this.#description.contextTokens, () => this.#wake());
    this.#constrain(active);
    this.#count({ requests: 1, promptTokens: request.promptIds.length });
    this.#waiting.push(active);
    this.#wake();
    return active;
  }

  /** Its grammar is made ready while it waits and its prompt is computed. @throws EngineError */
  #constrain(active: ActiveRequest): void {
    const { constraint } = active.request;
    if (!constraint) return;
    try {
      active.constraint = this.#options.constraints?.open(constraint, {
        onMask: () => this.#wake(),
        onError: (error) => void active.cancel(error),
      });
    } catch (error) {
      active.fail(error);
      throw error;
    }
  }

  status(): EngineStatus {
    return {
      running: this.#running.length,
      waiting: this.#waiting.length,
      maxSequences: this.#slots,
      contextTokens: this.#description.contextTokens,
      kvBlocks: { total: this.#blocks.total, free: this.#free, cached: this.#blocks.unused },
      totals: this.#totals,
    };
  }

  async drain(): Promise<void> {
    this.#ended ??= new EngineError("closed", "Cannot take a request: the engine is being drained");
    if (this.#running.length + this.#waiting.length > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  async close(): Promise<void> {
    this.#ended = new EngineError("closed", "Cannot take a request: the engine is closed");
    const reason = new EngineError("closed", "The request ended: the engine was closed");
    await Promise.all([...this.#running.map(({ request }) => request), ...this.#waiting].map((request) => request.cancel(reason)));
    this.#closing = true;
    this.#wake();
    await this.#loop;
    await this.#blocks.evict(this.#blocks.total);
  }

  /** Gives up what no running request has. */
  clearPrefixCache(): Promise<number> {
    return this.#blocks.evict(this.#blocks.total);
  }

  get #stepTokens(): number {
    return Math.min(this.#options.stepTokens ?? this.#description.maxTokens, this.#description.maxTokens);
  }

  /** Requests that run at most. Half of a step is kept for prompts. */
  get #slots(): number {
    const { maxSequences, maxOutputs } = this.#description;
    return Math.max(1, Math.min(maxSequences, maxOutputs, Math.floor(this.#stepTokens / 2)));
  }

  get #free(): number {
    return this.#blocks.free(this.#running.map(({ placement }) => placement));
  }

  #check({ promptIds, maxNewTokens, sampling, stopTokenIds, topLogprobs, promptLogprobs, constraint, signal }: EngineRequest): void {
    const { contextTokens, vocabSize } = this.#description;
    const refuse = (message: string, field?: string): never => {
      throw new EngineError("bad-request", `Cannot run the request: ${message}`, { ...(field !== undefined && { field }) });
    };
    if (promptIds.length === 0) refuse("the prompt is empty, expected at least one token");
    if (promptIds.length > contextTokens)
      throw new EngineError(
        "prompt-too-long",
        `Cannot run the prompt: it has ${promptIds.length} tokens, expected at most ${contextTokens}`,
        {
          actual: promptIds.length,
          expected: contextTokens,
        },
      );
    checkTokens("promptIds", promptIds, vocabSize);
    checkTokens("stopTokenIds", stopTokenIds, vocabSize);
    if (!Number.isSafeInteger(maxNewTokens) || maxNewTokens < 1) refuse(`maxNewTokens is ${maxNewTokens}, expected a positive integer`);
    checkSampling(sampling, vocabSize);
    if (topLogprobs !== undefined && !(Number.isSafeInteger(topLogprobs) && topLogprobs >= 0 && topLogprobs <= TOP_LOGPROBS))
      refuse(`topLogprobs is ${topLogprobs}, expected 0 to ${TOP_LOGPROBS}`, "topLogprobs");
    if (promptLogprobs === true && topLogprobs === undefined)
      refuse("promptLogprobs is true without topLogprobs, expected both", "promptLogprobs");
    if (constraint && !this.#options.constraints)
      refuse("constraint is given, but this engine follows no grammars: expected none", "constraint");
    signal?.throwIfAborted();
  }

  async #run(): Promise<void> {
    while (!this.#closing) {
      const woken = new Promise<void>((resolve) => (this.#wake = resolve));
      try {
        if (await this.#turn()) continue;
      } catch (error) {
        await this.#recover(error);
        continue;
      }
      if (this.#running.length + this.#waiting.length === 0) for (const tell of this.#idle.splice(0)) tell();
      if (!this.#closing) await woken;
    }
  }

  /** @returns whether there was anything to do */
  async #turn(): Promise<boolean> {
    await this.#dropCancelled();
    await this.#admit();
    const step = await this.#plan();
    if (step.entries.length > 0 && !(step.chain && this.#mostMayBeDone)) {
      if (step.chain) await this.#submitChained(step);
      else if (step.drafts > 0) {
        await this.#submitVerified(step);
        return true;
      } else {
        this.#forgetDrafts();
        await this.#submit(step);
      }
      if (!this.#readings.full) return true;
    } else this.#readings.read();
    if (await this.#learnDrafts()) return true;
    // Planning takes what was being read, which may have ended the last of those who ran: then there is a place for one who waits.
    if (!this.#readings.pending) return this.#running.length === 0 && this.#waiting.length > 0;
    await this.#take();
    return true;
  }

  async #dropCancelled(): Promise<void> {
    for (const placed of this.#running.filter(({ request }) => request.cancelled)) {
      await this.#unplace(placed);
      placed.request.fail(placed.request.cancelled?.reason);
    }
    const gone = this.#waiting.filter(({ cancelled }) => cancelled);
    if (gone.length === 0) return;
    this.#waiting = this.#waiting.filter(({ cancelled }) => !cancelled);
    for (const request of gone) request.fail(request.cancelled?.reason);
  }

  /** Gives places to those who wait, in their order, as long as their prompts fit beside what is promised already. */
  async #admit(): Promise<void> {
    for (;;) {
      const [request] = this.#waiting;
      if (!request || this.#running.length >= this.#slots) return;
      const found = this.#blocks.find(request);
      const promised = this.#running.reduce(
        (sum, { placement: { prefillTokens, length } }) =>
          sum + Math.max(0, this.#blocks.count(prefillTokens) - this.#blocks.count(length)),
        0,
      );
      // One block more for each, or the next token would drive somebody out again.
      const needed = this.#blocks.count(request.knownLength) - found.nodes.length + this.#running.length + promised;
      const fits = this.#running.length === 0 || needed <= this.#free + this.#blocks.unused;
      if (!fits || this.#sharesWithPrefill(request, found.tokens)) {
        this.#blocks.forget(found.nodes);
        return;
      }
      const slot = await this.#stage.open(found.blocks);
      const { sampling, promptIds } = request.request;
      await this.#stage.setSampling(slot, sampling, { promptIds, generatedIds: request.generated });
      const placement: Placement = {
        slot,
        prefillTokens: request.knownLength,
        nodes: new Set(found.nodes),
        sharedBlocks: found.nodes.length,
        length: found.tokens,
        chosen: request.generated.length,
        drafts: undefined,
      };
      if (request.cachedTokens === undefined) this.#count({ cachedTokens: found.tokens });
      request.admitted(placement, found.tokens);
      this.#waiting.shift();
      this.#running.push({ request, placement });
    }
  }

  /** Whether a prompt that is being computed begins like this one, further than the cache knows: then waiting for it is cheaper than computing it twice. */
  #sharesWithPrefill(request: ActiveRequest, cached: number): boolean {
    const { promptIds } = request.request;
    return this.#running.some(({ request: other, placement }) => {
      if (placement.length >= placement.prefillTokens || this.#options.prefixCache === false) return false;
      const ids = other.request.promptIds;
      const most = Math.min(ids.length, promptIds.length - 1, request.mostCached);
      let common = 0;
      while (common < most && ids[common] === promptIds[common]) common++;
      return common >= cached + this.#blocks.blockSize;
    });
  }

  /** The next step, with blocks for it: from the cache if need be, or else from whoever came last. */
  async #plan(): Promise<ScheduledStep> {
    for (;;) {
      const next = this.#nextDrafts;
      const chain = next > 0 && this.#chains;
      // Before drafts every token must be known, unless these chain; and every place before what does not.
      if (!chain && (next > 0 ? this.#readings.pending : this.#readings.unsettled)) {
        this.#readings.read();
        await this.#take();
        continue;
      }
      const { contextTokens, maxOutputs } = this.#description;
      const limits = { stepTokens: this.#stepTokens, maxOutputs, blockSize: this.#blocks.blockSize, readAtOnce: this.#readings.due };
      const step = schedule(this.#running, next > 0 ? { ...limits, drafting: { contextTokens, next, chain } } : limits);
      const missing = step.blocks - this.#free;
      if (missing <= 0 || (await this.#blocks.evict(missing)) >= missing) return step;
      if (this.#readings.pending) {
        // What is known then need not be computed again, and somebody may have ended.
        this.#readings.read();
        await this.#take();
        continue;
      }
      const youngest = this.#running.at(-1);
      if (!youngest) return step;
      await this.#unplace(youngest);
      this.#waiting.unshift(youngest.request);
      this.#count({ preemptions: 1 });
    }
  }

  async #submit({ entries }: ScheduledStep): Promise<void> {
    const batch = batchOf(entries);
    const { step } = await this.#stage.forward(batch);
    this.#count({ steps: 1 });
    const rows = rowsOf(entries);
    const decodes = entries.every(isDecode);
    for (const entry of entries) entry.placement.length += rowCount(entry);
    for (const { placement, quiet } of entries) if (!quiet) placement.chosen++;
    this.#readings.add({ step, rows, decodes, logprobs: batch.logprobs === true, masked: entries.some(({ masks }) => masks) });
    for (const entry of entries) await this.#rememberPrompt(entry);
  }

  /** A prompt that is complete may be shared from now on: steps run in the order of their submission. */
  async #rememberPrompt({ request, placement, quiet }: ScheduledEntry): Promise<void> {
    if (!quiet && placement.length === placement.prefillTokens) await this.#blocks.remember(request, placement);
  }

  /** Tokens that the next step drafts for each stream, after verifying those of the step before; 0 for a plain one. */
  get #nextDrafts(): number {
    const { maxDrafts, maxOutputs } = this.#description;
    const { drafts = {} } = this.#options;
    const streams = this.#running.length;
    const room = Math.floor(Math.min(maxOutputs, this.#stepTokens) / streams) - 1;
    if (drafts === false || !this.#running.some(({ request }) => request.takesDrafts)) return 0;
    const most = Math.min(maxDrafts, drafts.most ?? maxDrafts, room);
    if (most < 1) return 0;
    const least = Math.min(drafts.least ?? 0, most);
    const begun = this.#running.some(
      ({ request, placement }) =>
        request.takesDrafts && (this.#chains ? request.mostTokens >= LEAST_TOKENS : placement.chosen >= TOKENS_BEFORE_DRAFTS),
    );
    if (begun) return this.#speculation.next(streams, { least, most });
    this.#speculation.rest();
    return least;
  }

  /** Whether a step that verifies drafts need not wait for the one before: nobody's next token depends on what is known here. */
  get #chains(): boolean {
    return this.#description.chainsDrafts && this.#running.every(({ request }) => !request.bound);
  }

  /**
   * Whether half of those who run have their last token if the drafts on their way are right. They would sit a further step out: it is better to know first who goes on and who makes
   * place for others.
   */
  get #mostMayBeDone(): boolean {
    const done = this.#running.filter(({ request, placement }) => placement.chosen >= request.mostTokens);
    return done.length * 2 >= this.#running.length;
  }

  async #submitChained(step: ScheduledStep): Promise<void> {
    this.#draftedAt = undefined;
    await submitChained(this.#stage, this.#readings, step);
    this.#count({ steps: 1 });
    for (const entry of step.entries) await this.#rememberPrompt(entry);
  }

  #forgetDrafts(): void {
    this.#draftedAt = undefined;
    for (const { placement } of this.#running) placement.drafts = undefined;
  }

  async #submitVerified(step: ScheduledStep): Promise<void> {
    // Masks are waited for between steps.
    const begin = this.#draftedAt ?? performance.now();
    const { entries, drafts } = step;
    const decodes = entries.every(isDecode);
    this.#readings.interrupt();
    const { made, chosen, verified } = await chooseAndDraft(this.#stage, step);
    this.#count({ steps: 1, ...countDrafts(verified) });
    for (const entry of entries) await this.#rememberPrompt(entry);
    await this.#giveOut(chosen);
    if (made) this.#lookAhead(made);
    const now = performance.now();
    this.#draftedAt = made && now;
    if (decodes) this.#speculation.record({ drafts, steps: 1, ms: now - begin, verified });
  }

  /** Asks for the masks after drafts, which must be known for that: they are read at once, and others' next step does not wait for it. */
  #lookAhead(made: MadeDrafts): void {
    const bound = (): Placed[] =>
      this.#running.filter(({ request, placement }) => request.bound && request.takesDrafts && placement.drafts?.made === made);
    if (bound().length === 0) return;
    const look = (): void => {
      for (const { request, placement } of bound()) request.constraint?.lookAhead(made.of(placement.drafts?.stream ?? -1));
    };
    // Whoever waits for these drafts hears of a failure.
    made.read().then(look, () => {});
  }

  /** Waits for drafts that masks are to be looked up for. @returns whether there were any */
  async #learnDrafts(): Promise<boolean> {
    const unknown = this.#running.flatMap(({ request, placement: { drafts } }) =>
      request.bound && request.takesDrafts && drafts && !drafts.made.known ? [drafts.made] : [],
    );
    await Promise.all(unknown.map((made) => made.read()));
    return unknown.length > 0;
  }

  /** Waits for the oldest reading and gives its tokens out. */
  async #take(): Promise<void> {
    const { tokens, steps, decodeMs, afterPrompt, settled } = await this.#readings.next();
    for (const rows of settled) await settle(this.#stage, rows);
    await this.#giveOut(tokens);
    const rows = settled.flatMap(({ entries }) => entries).filter(({ verify }) => verify > 0);
    const verified = rows.map(({ verify, right }) => ({ drafts: verify, right }));
    this.#count(countDrafts(verified));
    if (decodeMs === undefined) return;
    this.#speculation.record({ drafts: settled[0]?.drafts ?? 0, steps, ms: decodeMs, afterPrompt, verified });
  }

  async #giveOut(tokens: KnownTokens["tokens"]): Promise<void> {
    const ended: Placed[] = [];
    for (const { row, id, logprobs } of tokens) {
      const { request, placement, promptPosition } = row;
      if (request.placement !== placement || request.ended) continue;
      this.#reopens = 0;
      const { topLogprobs } = request.request;
      const wanted = topLogprobs !== undefined && logprobs;
      const token = { id, ...(wanted && { logprob: logprobs.logprob, topLogprobs: logprobs.top.slice(0, topLogprobs) }) };
      if (promptPosition !== undefined) {
        request.takePrompt(promptPosition, token);
        continue;
      }
      this.#count({ completionTokens: 1 });
      const wasBound = request.bound;
      if (request.take(token)) ended.push(row);
      else if (request.bound && !wasBound) await this.#cutAhead(row);
    }
    for (const request of new Set(tokens.map(({ row }) => row.request))) if (!request.ended) request.constraint?.prepare();
    for (const placed of ended) {
      await this.#unplace(placed);
      placed.request.conclude();
    }
  }

  /** A grammar begins to hold after the last token that is known: what was computed beyond it was free, and is computed again. */
  async #cutAhead({ request, placement }: Placed): Promise<void> {
    const length = request.knownLength - 1;
    // Nobody asked for the masks after drafts that were made while it was free, and they would be waited for.
    placement.drafts = undefined;
    if (placement.length <= length) return;
    await this.#stage.truncate(placement.slot, length);
    // Penalties count what was chosen.
    const { sampling, promptIds } = request.request;
    await this.#stage.setSampling(placement.slot, sampling, { promptIds, generatedIds: request.generated });
    // Tokens that are still on their way belong to the old place.
    const cut = { ...placement, length, chosen: request.generated.length };
    this.#running = this.#running.map((placed) => (placed.request === request ? { request, placement: cut } : placed));
    request.placement = cut;
  }

  async #unplace(placed: Placed): Promise<void> {
    const { request, placement } = placed;
    // Still one of those who run if this fails: recovery must find it.
    await this.#blocks.close(request, placement);
    this.#running = this.#running.filter((other) => other.request !== request);
    request.placement = undefined;
  }

  /** A step failed. If there is a stage to go on with, what ran is computed again there; otherwise it ends. */
  async #recover(error: unknown): Promise<void> {
    const requests = [...this.#running.map(({ request }) => request), ...this.#waiting];
    this.#running = [];
    for (const request of requests) request.placement = undefined;
    const refused = await this.#replaceStage(error);
    if (!refused) {
      this.#waiting = requests.filter(({ ended }) => !ended);
      for (const request of requests) request.conclude();
      return;
    }
    const { failure } = refused;
    this.#ended = new EngineError("closed", `Cannot take a request: the engine stopped, ${String(failure)}`);
    this.#closing = true;
    this.#waiting = [];
    for (const request of requests) request.fail(failure);
    for (const tell of this.#idle.splice(0)) tell();
  }

  /** Takes another stage for one that was lost; one that is lost itself before its first step counts as those before it. @returns why not, undefined if there is one */
  async #replaceStage(lost: unknown): Promise<{ readonly failure: unknown } | undefined> {
    const { reopen } = this.#options;
    if (!reopen || !isLoss(lost) || this.#reopens++ >= MOST_REOPENS || this.#closing) return { failure: lost };
    try {
      const stage = await reopen(lost);
      const description = await stage.describe();
      const { contextTokens } = this.#description;
      if (description.contextTokens < contextTokens)
        throw new EngineError(
          "bad-stage",
          `Cannot go on: the new stage holds ${description.contextTokens} tokens, expected ${contextTokens}`,
        );
      this.#stage = stage;
      this.#description = description;
      this.#blocks = new BlockLedger(stage, description, this.#options.prefixCache ?? true);
      this.#readings = new Readings(stage);
      this.#draftedAt = undefined;
      return undefined;
    } catch (failure) {
      return this.#replaceStage(failure);
    }
  }

  #count(more: Partial<EngineStatus["totals"]>): void {
    const sums = Object.entries(more).map(([name, value]) => [name, this.#totals[name as keyof EngineStatus["totals"]] + value]);
    this.#totals = { ...this.#totals, ...(Object.fromEntries(sums) as Partial<EngineStatus["totals"]>) };
  }
}
