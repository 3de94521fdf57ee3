/** A Stage on this thread's device. */
import type { CheckpointSource, ModelConfig } from "@shoal/checkpoint";
import type { Command, GpuContext } from "@shoal/gpu";
import {
  GREEDY,
  type KvFormat,
  MAX_DRAFTS,
  type StepBuffers,
  encodeBatch,
  encodeSamplingParams,
  isShortContext,
  positionFromLast,
  positionWithin,
  settledBytes,
  tokenFromDraft,
} from "@shoal/kernels";
import { type Activations, RING_STEPS, createActivations } from "./activations.ts";
import { ModelError } from "./errors.ts";
import { HeldDrafts } from "./heldDrafts.ts";
import { type KvBlock, KV_BLOCK_SIZE, PagedKvCache, type SequenceSlot } from "./kvCache.ts";
import { type KvRange, type KvSnapshot, exportKv, importKv } from "./kvTransfer.ts";
import { LogitAdjuster } from "./logitAdjuster.ts";
import { logprobRing, readLogprobs } from "./logprobRing.ts";
import type { ExpertShard } from "./experts/expertShard.ts";
import { MtpWindow } from "./mtpWindow.ts";
import { type MtpRecycling, type StepShape, Programs } from "./programs.ts";
import type { NumericMode, RecordedStep } from "./recorder.ts";
import { checkAdapter } from "./requirements.ts";
import { Sampler } from "./sampler.ts";
import type { Batch, ChosenLogprobs, SamplingParameters, Stage, StageDescription, StepOutput, TokenHistory } from "./stage.ts";
import { type PlannedStep, StepPlanner, hiddenRows, rowCount } from "./stepPlan.ts";
import type { StepRing } from "./stepRing.ts";
import { Trace, captured, packRows } from "./trace.ts";
import type { LoadProgress } from "./weights/reader.ts";
import { type LayerRange, type ModelWeights, loadWeights } from "./weights/model.ts";

export interface LocalStageOptions {
  readonly mode?: NumericMode;
  readonly kvFormat?: KvFormat;
  /** Longest sequence; by default the model's own limit, at most 4096. */
  readonly contextTokens?: number;
  readonly maxSequences?: number;
  /** Room in the KV cache for all sequences together, in tokens; by default one sequence of full length. */
  readonly kvTokens?: number;
  /** Most tokens in one step: the chunk of a prefill. */
  readonly maxTokens?: number;
  /** Most rows of logits in one step. */
  readonly maxOutputs?: number;
  readonly mtp?: boolean;
  /** What a further draft goes on from; "post-norm" by default. */
  readonly mtpRecycling?: MtpRecycling;
  readonly layers?: LayerRange;
  /** Who computes the routed experts of these layers, instead of this device. The stage uses it; whoever made it destroys it. */
  readonly experts?: ExpertShard;
  readonly onProgress?: (progress: LoadProgress) => void;
  readonly signal?: AbortSignal;
}

export const DEFAULT_CONTEXT_TOKENS = 4096;
export const DEFAULT_MAX_TOKENS = 256;
export const DEFAULT_MAX_OUTPUTS = 8;
const NO_HISTORY: TokenHistory = { promptIds: [], generatedIds: [] };

/** Loads a checkpoint onto a device. If it throws, the context stays the caller's; otherwise it is the stage's, whose `destroy()` closes it. */
export async function loadLocalStage(gpu: GpuContext, checkpoint: CheckpointSource, options: LocalStageOptions = {}): Promise<LocalStage> {
  const { config } = checkpoint;
  const plan = stagePlan(config, options);
  const subgroupMatrix = gpu.dialect.subgroupMatrix !== undefined;
  checkAdapter(gpu.limits, checkpoint, { ...plan, kvFormat: options.kvFormat ?? "f16", subgroupMatrix });
  const { maxTokens } = plan;
  const weights = await loadWeights(gpu, checkpoint, {
    range: plan.layers,
    mtp: plan.mtp,
    maxTokens,
    givesExperts: options.experts !== undefined,
    onProgress: options.onProgress,
    signal: options.signal,
  });
  return gpu.scoped("allocate the KV cache and activations", () => new LocalStage(gpu, config, weights, plan, options));
}

export interface StagePlan {
  readonly contextTokens: number;
  readonly maxSequences: number;
  readonly kvTokens: number;
  readonly maxTokens: number;
  readonly maxOutputs: number;
  readonly mtp: boolean;
  readonly layers: LayerRange;
}

/** Fills in what the options leave open. */
export function stagePlan(config: ModelConfig, options: LocalStageOptions): StagePlan {
  const contextTokens = Math.min(options.contextTokens ?? DEFAULT_CONTEXT_TOKENS, config.maxPositionEmbeddings);
  const maxTokens = Math.min(options.maxTokens ?? DEFAULT_MAX_TOKENS, contextTokens);
  const layers = options.layers ?? { begin: 0, end: config.nLayers };
  return {
    contextTokens,
    maxTokens,
    maxSequences: options.maxSequences ?? 1,
    // A sequence that is alone must fit.
    kvTokens: Math.max(options.kvTokens ?? contextTokens, contextTokens),
    maxOutputs: Math.min(options.maxOutputs ?? DEFAULT_MAX_OUTPUTS, maxTokens),
    mtp: (options.mtp ?? false) && config.nMtpLayers > 0 && layers.end === config.nLayers,
    layers,
  };
}

export class LocalStage implements Stage {
  readonly gpu: GpuContext;
  readonly config: ModelConfig;
  readonly kv: PagedKvCache;
  readonly activations: Activations;
  readonly #weights: ModelWeights;
  readonly #plan: StagePlan;
  readonly #programs: Programs;
  readonly #sampler: Sampler;
  readonly #draftSampler: Sampler;
  readonly #adjuster: LogitAdjuster;
  readonly #logprobs: StepRing;
  readonly #planner: StepPlanner;
  readonly #mtpWindow: MtpWindow | undefined;
  /** Of the first draft after a step, the second, ... */
  readonly #draftSteps: readonly StepBuffers[];
  readonly #held = new HeldDrafts();
  readonly #experts: ExpertShard | undefined;
  #trace: Trace | undefined;
  #step = 0;
  /** Rows of the step before, for `draft`. */
  #previous: { readonly plan: PlannedStep; readonly step: number; readonly chain: boolean } | undefined;
  /** Sequences whose last step was chained. */
  readonly #settled = new Set<SequenceSlot>();
  /** Steps are planned and submitted one after the other, in the order of the calls. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(gpu: GpuContext, config: ModelConfig, weights: ModelWeights, plan: StagePlan, options: LocalStageOptions) {
    this.gpu = gpu;
    this.config = config;
    this.#weights = weights;
    this.#plan = plan;
    this.#experts = options.experts;
    const { contextTokens, kvTokens, maxSequences, maxTokens, maxOutputs } = plan;
    const layers = [...weights.layers, ...(weights.mtp ? [weights.mtp.layer] : [])];
    this.kv = new PagedKvCache(gpu, {
      config,
      layers: layers.length,
      format: options.kvFormat ?? "f16",
      maxSequences,
      contextTokens,
      totalTokens: kvTokens,
    });
    this.activations = createActivations(gpu, {
      config,
      layers,
      kv: this.kv,
      maxTokens,
      maxOutputs,
      hasHead: weights.head !== undefined,
      hasMtp: weights.mtp !== undefined,
    });
    this.#sampler = new Sampler(gpu, config.vocabSize, maxSequences, maxOutputs);
    this.#draftSampler = new Sampler(gpu, config.vocabSize, maxSequences, maxOutputs, MAX_DRAFTS);
    const { vocabSize: vocab } = config;
    this.#adjuster = new LogitAdjuster(gpu, { vocab, maxSequences, maxOutputs, logitsStride: this.activations.logits.stride });
    this.#logprobs = logprobRing(gpu, maxOutputs);
    this.#planner = new StepPlanner({
      plan,
      vocab,
      adjuster: this.#adjuster,
      lengthOf: (sequence) => this.kv.length(sequence),
      isSettled: (sequence) => this.#settled.has(sequence),
    });
    const window = weights.mtp && new MtpWindow(gpu, this.kv);
    this.#mtpWindow = window;
    this.#draftSteps = window ? draftSteps(gpu, this.activations.step, window) : [];
    this.#programs = new Programs({
      gpu,
      config,
      weights,
      kv: this.kv,
      activations: this.activations,
      mode: options.mode ?? "w8a32",
      recycling: options.mtpRecycling ?? "post-norm",
      sampler: this.#sampler,
      draftSampler: this.#draftSampler,
      adjuster: this.#adjuster,
      logprobRing: this.#logprobs,
      draftSteps: this.#draftSteps,
      settled: plan.mtp ? gpu.buffer({ label: "settled drafts", size: settledBytes(maxSequences), kind: "tables" }) : undefined,
    });
  }

  async describe(): Promise<StageDescription> {
    const { layers, mtp, contextTokens, maxSequences, maxTokens, maxOutputs } = this.#plan;
    return {
      layers,
      hasEmbedding: layers.begin === 0,
      hasHead: this.#weights.head !== undefined,
      hasMtp: mtp,
      maxDrafts: mtp ? MAX_DRAFTS : 0,
      // Rows of a stage in the middle are placed by whoever sends them.
      chainsDrafts: mtp && layers.begin === 0,
      vocabSize: this.config.vocabSize,
      contextTokens,
      maxSequences,
      maxTokens,
      maxOutputs,
      memory: this.gpu.memory.byKind(),
      freeKvBlocks: this.kv.freeBlocks,
      kvBlockSize: KV_BLOCK_SIZE,
    };
  }

  async open(prefix?: readonly KvBlock[]): Promise<SequenceSlot> {
    const slot = await this.#inTurn(() => this.#opened(this.kv.open(prefix)));
    await this.setSampling(slot, GREEDY);
    return slot;
  }

  retain(sequence: SequenceSlot, first: number, count: number): Promise<readonly KvBlock[]> {
    return this.#inTurn(() => this.kv.retain(sequence, first, count));
  }

  release(blocks: readonly KvBlock[]): Promise<void> {
    return this.#inTurn(() => this.kv.release(blocks));
  }

  exportKv(sequence: SequenceSlot, range?: KvRange): Promise<KvSnapshot> {
    return this.#inTurn(() => {
      this.#submitHeld();
      return exportKv(this.gpu, this.kv, sequence, range);
    });
  }

  async importKv(snapshot: KvSnapshot, onto?: SequenceSlot): Promise<SequenceSlot> {
    const slot = await this.#inTurn(() => {
      this.#submitHeld();
      return this.#opened(importKv(this.gpu, this.kv, snapshot, onto));
    });
    if (onto === undefined) await this.setSampling(slot, GREEDY);
    return slot;
  }

  #opened(slot: SequenceSlot): SequenceSlot {
    this.#settled.delete(slot);
    this.#mtpWindow?.forget(slot);
    return slot;
  }

  truncate(sequence: SequenceSlot, length: number): Promise<void> {
    return this.#inTurn(() => {
      this.kv.truncate(sequence, length);
      this.#mtpWindow?.truncate(sequence, length);
    });
  }

  close(sequence: SequenceSlot): Promise<void> {
    return this.#inTurn(() => {
      this.kv.close(sequence);
      const commands = this.#held.close(sequence);
      if (commands.length > 0) this.gpu.submit(commands);
    });
  }

  setSampling(sequence: SequenceSlot, parameters: SamplingParameters, history: TokenHistory = NO_HISTORY): Promise<void> {
    return this.#inTurn(() => {
      // Whatever is wrong is found before anything is set.
      this.kv.length(sequence);
      encodeSamplingParams(parameters);
      this.#submitHeld();
      this.#adjuster.set(sequence, parameters, history);
      this.#sampler.set(sequence, parameters);
      this.#draftSampler.set(sequence, parameters);
    });
  }

  async forward(batch: Batch): Promise<StepOutput> {
    const { plan, step, shape } = await this.#inTurn(() => this.#submitForward(batch));
    return this.#collect(batch, plan, step, shape);
  }

  async draft(batch: Batch): Promise<StepOutput> {
    const { plan, step, shape } = await this.#inTurn(() => this.#submitDraft(batch));
    return this.#collect(batch, plan, step, shape);
  }

  sampled(first: number, count: number): Promise<readonly (readonly number[])[]> {
    return this.#sampler.read(first, count);
  }

  logprobs(first: number, count: number): Promise<readonly (readonly ChosenLogprobs[])[]> {
    return readLogprobs(this.#logprobs, first, count);
  }

  async drafted(first: number, count: number): Promise<readonly (readonly number[])[]> {
    await this.#inTurn(() => this.#submitHeld());
    return this.#draftSampler.read(first, count);
  }

  #submitHeld(): void {
    const commands = this.#held.take();
    if (commands.length > 0) this.gpu.submit(commands);
  }

  /** The commands of a step of that shape, for benches. */
  async program(shape: StepShape): Promise<readonly Command[]> {
    return (await this.#programs.get(shape)).commands;
  }

  async destroy(): Promise<void> {
    await this.#inTurn(() => this.gpu.destroy());
  }

  async #submitForward(batch: Batch): Promise<{ plan: PlannedStep; step: number; shape: StepShape }> {
    const { chain = false } = batch;
    if (chain && !(this.#plan.mtp && this.#plan.layers.begin === 0))
      throw new ModelError("unsupported", "Cannot chain steps: expected a stage of all layers with an MTP module");
    const plan = this.#planner.plan(batch);
    const hidden = this.#plan.layers.begin > 0 ? hiddenRows(batch, this.config.hiddenSize, this.activations.residual.stride) : undefined;
    let begun = false;
    try {
      return await this.#submit(batch, plan, { kind: "forward" }, () => {
        this.kv.extend(batch.entries.map((entry) => ({ sequence: entry.sequence, tokens: rowCount(entry) })));
        begun = true;
        this.#previous = { plan, step: this.#step, chain };
        for (const { sequence, quiet = false } of batch.entries) this.#settled[chain && !quiet ? "add" : "delete"](sequence);
        if (hidden) this.gpu.write(this.activations.residual.buffer, 0, hidden);
      });
    } catch (error) {
      // Experts elsewhere failed in the middle of the step: it can be repeated.
      if (begun) for (const entry of batch.entries) this.kv.truncate(entry.sequence, this.kv.length(entry.sequence) - rowCount(entry));
      throw error;
    }
  }

  async #submitDraft(batch: Batch): Promise<{ plan: PlannedStep; step: number; shape: StepShape }> {
    const window = this.#mtpWindow;
    if (!window) throw new ModelError("unsupported", "Cannot draft: this stage has no MTP module");
    const { drafts = 1, output, chain = false } = batch;
    const previous = this.#previous?.plan;
    if (output === "hidden") throw new ModelError("unsupported", "Cannot draft with output 'hidden': a draft's rows go nowhere else");
    if (chain && this.#previous?.chain !== true) throw new ModelError("bad-batch", "Cannot chain a draft: the step before was not chained");
    const plan = this.#planner.plan(batch, previous);
    const fits = plan.sequences.every((sequence, row) => {
      const position = plan.positions[row] ?? 0;
      // Cut back or closed since, its blocks may be another's by now.
      const held = position < this.kv.length(sequence as SequenceSlot);
      const source = plan.sources[row] ?? 0;
      return held && previous?.sequences[source] === sequence && previous.positions[source] === position;
    });
    if (!fits) throw new ModelError("bad-batch", "Cannot draft: the rows are not those of the step before, expected rows of it");
    if (!Number.isInteger(drafts) || drafts < 1 || drafts > MAX_DRAFTS || (drafts > 1 && output !== "sample"))
      throw new ModelError("bad-batch", `Cannot draft ${drafts} tokens in a row, expected 1 to ${MAX_DRAFTS} in a step that samples`);
    // Nothing goes on where every entry is quiet.
    const further = Array.from({ length: plan.chosenRows.length > 0 ? drafts - 1 : 0 }, (_, index) => furtherDraft(plan, index + 1, chain));
    // Their batches are about to be another's.
    this.#submitHeld();
    const runs = moduleRuns(plan, window);
    const submitted = await this.#submit(batch, within(plan, runs), { kind: "draft", recycles: further.length > 0 }, () => {
      this.#extendFor(further);
      for (const [sequence, { first, start, end }] of runs) {
        window.run(sequence, { start, end, blocks: this.kv.blocks(sequence) });
        this.#draftSampler.countFrom(sequence, first);
      }
    });
    for (const [index, next] of further.entries())
      await this.#submit(batch, within(next, runs), { kind: "draft", depth: index + 1, recycles: index + 1 < further.length });
    return submitted;
  }

  /** Room for the positions of further drafts. */
  #extendFor(further: readonly PlannedStep[]): void {
    const last = further.at(-1);
    if (!last) return;
    const growth = last.sequences.map((slot, row) => {
      const sequence = slot as SequenceSlot;
      return { sequence, tokens: Math.max(0, (last.positions[row] ?? 0) + 1 - this.kv.length(sequence)) };
    });
    this.kv.extend(growth);
  }

  /** @param begin what to do once nothing but `begin` itself can refuse the step any more */
  async #submit(
    batch: Batch,
    plan: PlannedStep,
    which: Pick<StepShape, "kind" | "depth" | "recycles">,
    begin: () => void = () => undefined,
  ): Promise<{ plan: PlannedStep; step: number; shape: StepShape }> {
    const { output, capture, chain = false } = batch;
    const { kind } = which;
    const sampler = kind === "forward" ? this.#sampler : this.#draftSampler;
    const tokens = plan.tokens.length;
    const outputRows =
      output === "none" || output === "hidden" ? [] : output === "allLogits" ? plan.tokens.map((_, row) => row) : plan.chosenRows;
    if (outputRows.length > this.#plan.maxOutputs)
      throw new ModelError(
        "bad-batch",
        `Cannot give logits of ${outputRows.length} rows in one step, expected at most ${this.#plan.maxOutputs}`,
      );
    if (outputRows.length > 0 && !this.#weights.head) throw new ModelError("bad-batch", "Cannot give logits: this stage has no head");
    const captures = captured(capture);
    if (captures !== "nothing") this.#trace ??= new Trace(this.gpu, this.config, this.#weights.layers, this.activations);
    const chooses = output === "sample" && outputRows.length > 0;
    const slots = plan.chosenRows.map((row) => plan.sequences[row] ?? 0);
    const shape: StepShape = {
      ...which,
      tokens,
      outputs: outputRows.length,
      identity: outputRows.length === tokens && outputRows.every((row, index) => row === index),
      choose: chooses ? sampler.choose(slots) : "none",
      capture: captures,
      short: isShortContext(plan),
      // A draft that is adjusted would be counted, as if it had been chosen.
      adjusts: chooses && kind === "forward" && this.#adjuster.needed(slots, plan.masks),
      logprobs: chooses && kind === "forward" && (batch.logprobs ?? false),
      chain,
    };
    const recorded = await this.#programs.get(shape, this.#trace);
    begin();
    const step = this.#step++;
    const told = { ...plan, positions: plan.places, outputRows: outputRows === plan.chosenRows ? plan.chosenPlaces : outputRows };
    const verifiedRow = (this.#previous?.step ?? 0) % RING_STEPS;
    const rows = encodeBatch({ ...told, ringRow: step % RING_STEPS, verifiedRow }, this.#plan.maxTokens);
    const buffers = kind === "draft" ? this.#draftSteps[which.depth ?? 0] : this.activations.step;
    if (!buffers) throw new RangeError("This stage makes no such draft");
    this.gpu.write(buffers.batch, 0, rows);
    if (shape.adjusts) this.#adjuster.mask(plan.masks);
    if (output === "sample") sampler.ring.note(step, outputRows.length);
    // Who reads several steps at once reads over those that drafted.
    if (output === "sample" && kind === "draft") for (const ring of [this.#sampler.ring, this.#logprobs]) ring.note(step, 0);
    if (output === "sample" && kind === "forward") this.#logprobs.note(step, shape.logprobs ? outputRows.length : 0);
    const whole = recorded.marks.length === 0;
    if (whole && kind === "draft" && chain) this.#held.hold(recorded.commands, plan.sequences as SequenceSlot[]);
    else if (whole) this.gpu.submit([...this.#held.take(), ...recorded.commands]);
    else {
      this.#submitHeld();
      await this.#runGiving(recorded, tokens);
    }
    return { plan, step, shape };
  }

  /** A step that leaves the device at every layer whose experts are somewhere else. */
  async #runGiving({ commands, marks }: RecordedStep, tokens: number): Promise<void> {
    const { given, normed } = this.activations;
    const experts = this.#experts;
    if (!given || !experts) throw new RangeError("A step gives experts away, but nobody takes them");
    const { hiddenSize, nActivatedExperts: slots } = this.config;
    const routingBytes = tokens * slots * 8;
    let sums: Promise<Float32Array<ArrayBuffer>> = Promise.resolve(new Float32Array());
    let from = 0;
    for (const { at, what, layer } of marks) {
      if (at > from) this.gpu.submit(commands.slice(from, at));
      from = at;
      if (what === "give") {
        const bytes = await this.gpu.read(given.out, 0, routingBytes + tokens * normed.stride * 4);
        const pairs = new Uint32Array(bytes, 0, tokens * slots * 2);
        const weights = new Float32Array(bytes, 0, tokens * slots * 2);
        sums = experts.run({
          layer,
          tokens,
          slots,
          x: packRows(new Float32Array(bytes, routingBytes), tokens, hiddenSize, normed.stride),
          experts: Uint32Array.from({ length: tokens * slots }, (_, pair) => pairs[pair * 2] ?? 0),
          weights: Float32Array.from({ length: tokens * slots }, (_, pair) => weights[pair * 2 + 1] ?? 0),
        });
        // It is awaited when this device has nothing left to do.
        sums.catch(() => undefined);
      } else {
        const rows = await sums;
        if (rows.length !== tokens * hiddenSize)
          throw new ModelError("bad-batch", `The experts of layer ${layer} gave ${rows.length} values, expected ${tokens * hiddenSize}`);
        const { buffer, stride } = given.sums;
        const padded = stride === hiddenSize ? rows : new Float32Array(tokens * stride);
        if (padded !== rows)
          for (let row = 0; row < tokens; row++) padded.set(rows.subarray(row * hiddenSize, (row + 1) * hiddenSize), row * stride);
        this.gpu.write(buffer, 0, padded);
      }
    }
    this.gpu.submit(commands.slice(from));
  }

  async #collect(batch: Batch, plan: PlannedStep, step: number, shape: StepShape): Promise<StepOutput> {
    const { output, capture } = batch;
    const { logits, residual } = this.activations;
    const tokens = plan.tokens.length;
    const read = async ({ buffer, stride }: typeof logits, rows: number, columns: number): Promise<Float32Array<ArrayBuffer>> =>
      packRows(new Float32Array(await this.gpu.read(buffer, 0, rows * stride * 4)), rows, columns, stride);
    const wantsLogits = output === "lastLogits" || output === "allLogits";
    // All reads are submitted before the first is awaited: the next step then comes after them.
    const [rows, hidden, layerHidden, routing] = await Promise.all([
      wantsLogits ? read(logits, shape.outputs, this.config.vocabSize) : undefined,
      output === "hidden" ? read(residual, tokens, this.config.hiddenSize) : undefined,
      capture?.hidden ? this.#trace?.hidden(tokens) : undefined,
      capture?.routing ? this.#trace?.routing(tokens) : undefined,
    ]);
    return {
      step,
      ...(rows && { logits: rows }),
      ...(hidden && { hidden }),
      ...(layerHidden && { layerHidden }),
      ...(routing && { routing }),
    };
  }

  #inTurn<T>(work: () => T | Promise<T>): Promise<T> {
    const result = this.#turn.then(work, work);
    this.#turn = result.catch(() => undefined);
    return result;
  }
}

/** What steps of the MTP module take that is not what the main model's do. */
function draftSteps(gpu: GpuContext, step: StepBuffers, { blockTable }: MtpWindow): readonly StepBuffers[] {
  return Array.from({ length: MAX_DRAFTS }, (_, depth) => ({
    ...step,
    batch: gpu.buffer({ label: `batch of draft ${depth + 1}`, size: step.batch.size, kind: "tables" }),
    blockTable,
  }));
}

/** Of a sequence: positions that the MTP module runs over in a step, and where it begins to count them. */
interface ModuleRun {
  readonly first: number;
  readonly start: number;
  readonly end: number;
}

function moduleRuns({ sequences, positions }: PlannedStep, window: MtpWindow): ReadonlyMap<SequenceSlot, ModuleRun> {
  const runs = new Map<SequenceSlot, ModuleRun>();
  for (const [row, slot] of sequences.entries()) {
    const sequence = slot as SequenceSlot;
    const position = positions[row] ?? 0;
    const { first, start } = runs.get(sequence) ?? { first: window.first(sequence, position), start: position };
    runs.set(sequence, { first, start, end: position + 1 });
  }
  return runs;
}

/** A step with positions as the module counts them. */
function within(plan: PlannedStep, runs: ReadonlyMap<SequenceSlot, ModuleRun>): PlannedStep {
  const counted = (position: number, row: number): number =>
    positionWithin(position, runs.get(plan.sequences[row] as SequenceSlot)?.first ?? 0);
  return { ...plan, positions: plan.positions.map(counted), places: plan.places.map(counted) };
}

/** After a drafting step, draft number `index`: a row for each token that was drafted, one position further. */
function furtherDraft({ chosenRows, positions: before, sequences }: PlannedStep, index: number, chain: boolean): PlannedStep {
  const positions = chosenRows.map((row) => (before[row] ?? 0) + index);
  const rows = chosenRows.map((_, row) => row);
  return {
    tokens: chosenRows.map(() => tokenFromDraft(index - 1)),
    positions,
    places: chain ? positions.map(() => positionFromLast(index)) : positions,
    sequences: chosenRows.map((row) => sequences[row] ?? 0),
    chosenRows: rows,
    chosenPlaces: rows,
    masks: chosenRows.map(() => undefined),
    given: chosenRows.map(() => undefined),
    // The module's own states lie in the order of the outputs.
    sources: rows,
  };
}
