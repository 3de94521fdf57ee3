/**
 * The model over a path of peers, as one Stage. Each step goes through the stages in turn. What every stage was given is kept; when one is lost, stalls or answers nonsense, only
 * its layers are opened elsewhere, get the same inputs again, and the step goes on: tokens that are out do not change. (As Petals' inference session does.)
 *
 * Steps run one after the other. Prefixes are not shared and nothing is drafted: `retain` and `draft` are refused.
 */
import {
  type Batch,
  type BatchEntry,
  type ChosenLogprobs,
  type KvBlock,
  type KvSnapshot,
  ModelError,
  type SamplingParameters,
  type SequenceSlot,
  type Stage,
  type StageDescription,
  type StepOutput,
  type TokenHistory,
  toldRows,
} from "@shoal/model";
import { type Clock, SYSTEM_CLOCK, pause } from "../clock.ts";
import { ANNOUNCE_MS } from "../control/directory.ts";
import { SwarmError } from "../errors.ts";
import type { Hop } from "../plan/path.ts";
import type { LayerRange } from "../plan/range.ts";
import { SequenceHistory, type StageInput } from "./history.ts";
import { ActiveHop, type Fault, HopFault, type ModelShape, type OpenedHop } from "./hop.ts";

/** A stage that does not answer for so long is replaced. A chunk of a prompt on a slow device takes seconds. */
export const STALL_MS = 15_000;
/** How long a step waits for somebody who takes the place of a lost stage. */
export const PATIENCE_MS = 60_000;
const LOOK_AGAIN_MS = 250;
/** Whoever has just come has not heard of everybody yet. */
const HEARD_ALL_MS = ANNOUNCE_MS + 500;
/** Steps whose tokens can be read. */
const KEPT_STEPS = 256;

export interface SwarmStageOptions extends ModelShape {
  /** A chain of peers for these layers, without those. Undefined where there is none at the moment. */
  readonly plan: (question: { readonly layers: LayerRange; readonly without: ReadonlySet<string> }) => readonly Hop[] | undefined;
  /** Of these layers, what no chain of peers but those leads through: for the message where there is none. */
  readonly missing: (question: { readonly layers: LayerRange; readonly without: ReadonlySet<string> }) => readonly LayerRange[];
  /** There is no path at the moment: what is waited for, and how long at most. Once for each thing that is missing. */
  readonly onWait?: (what: string, patienceMs: number) => void;
  readonly open: (hop: Hop) => Promise<OpenedHop>;
  /** Who was replaced, and why. */
  readonly onFault?: (peer: string, fault: Fault, error: Error) => void;
  /** For whoever looks over the peers' shoulders (audit.ts). */
  readonly onStep?: (step: ObservedStep) => void;
  readonly clock?: Clock;
  readonly stallMs?: number;
  readonly patienceMs?: number;
}

/** What one stage did in one step for one sequence. */
export interface ObservedStep {
  readonly hop: Hop;
  readonly inputs: readonly StageInput[];
  /** [tokens of the last input, hiddenSize]; of every stage but the last. */
  readonly hidden?: Float32Array<ArrayBuffer>;
  /** Chosen by the last stage, where that is the likeliest one and nothing else. */
  readonly token?: number;
}

interface Entry {
  readonly given: BatchEntry;
  readonly history: SequenceHistory;
  readonly tokens: readonly number[];
}

interface StepResult {
  readonly tokens?: readonly number[];
  readonly logprobs?: readonly ChosenLogprobs[];
}

export class SwarmStage implements Stage {
  readonly #options: SwarmStageOptions;
  readonly #clock: Clock;
  readonly #sequences = new Map<SequenceSlot, SequenceHistory>();
  readonly #results = new Map<number, StepResult>();
  readonly #closing = new AbortController();
  #hops: ActiveHop[] = [];
  #nextSlot = 0;
  #step = 0;
  #turn: Promise<unknown> = Promise.resolve();
  #replaced = 0;

  private constructor(options: SwarmStageOptions) {
    this.#options = options;
    this.#clock = options.clock ?? SYSTEM_CLOCK;
  }

  /** @throws SwarmError incomplete where no path comes about within the patience */
  static async open(options: SwarmStageOptions): Promise<SwarmStage> {
    const stage = new SwarmStage(options);
    stage.#hops = await stage.#openPath({ begin: 0, end: options.nLayers }, new Set());
    return stage;
  }

  get path(): readonly Hop[] {
    return this.#hops.map(({ hop }) => hop);
  }

  /** Stages that were opened elsewhere since the beginning. */
  get replaced(): number {
    return this.#replaced;
  }

  /** Of what is kept for rebuilding stages. */
  get historyBytes(): number {
    let sum = 0;
    for (const history of this.#sequences.values()) sum += history.bytes();
    return sum;
  }

  async describe(): Promise<StageDescription> {
    const all = this.#hops.map(({ description }) => description);
    const least = (of: (one: StageDescription) => number): number => Math.min(...all.map(of));
    const last = this.#last.description;
    return {
      layers: { begin: 0, end: this.#options.nLayers },
      hasEmbedding: true,
      hasHead: true,
      hasMtp: false,
      vocabSize: this.#options.vocabSize,
      contextTokens: least(({ contextTokens }) => contextTokens),
      maxSequences: least(({ maxSequences }) => maxSequences),
      maxTokens: least(({ maxTokens }) => maxTokens),
      maxOutputs: last.maxOutputs,
      maxDrafts: 0,
      memory: {},
      freeKvBlocks: least(({ freeKvBlocks }) => freeKvBlocks),
      kvBlockSize: Math.max(...all.map(({ kvBlockSize }) => kvBlockSize)),
    };
  }

  open(prefix: readonly KvBlock[] = []): Promise<SequenceSlot> {
    if (prefix.length > 0) return refused("begin with KV blocks of others");
    return this.#inTurn(async () => {
      const sequence = this.#nextSlot++ as SequenceSlot;
      const history = new SequenceHistory(this.#options.hiddenSize);
      await this.#everywhere(async (hop) => void hop.slots.set(sequence, await hop.call(hop.stage.open())));
      this.#sequences.set(sequence, history);
      return sequence;
    });
  }

  retain(): Promise<readonly KvBlock[]> {
    return refused("keep KV blocks");
  }

  async release(blocks: readonly KvBlock[]): Promise<void> {
    if (blocks.length > 0) await refused("release KV blocks");
  }

  exportKv(): Promise<KvSnapshot> {
    return refused("export KV rows");
  }

  importKv(): Promise<SequenceSlot> {
    return refused("import KV rows");
  }

  truncate(sequence: SequenceSlot, length: number): Promise<void> {
    return this.#inTurn(async () => {
      const history = this.#history(sequence);
      history.truncate(length);
      // A stage that is rebuilt is rebuilt as long as the history says: cutting it once more changes nothing.
      await this.#everywhere((hop) => hop.call(hop.stage.truncate(hop.slot(sequence), length)));
    });
  }

  close(sequence: SequenceSlot): Promise<void> {
    return this.#inTurn(async () => {
      this.#history(sequence);
      this.#sequences.delete(sequence);
      for (const hop of this.#hops) {
        const slot = hop.slots.get(sequence);
        hop.slots.delete(sequence);
        // Whoever is gone has closed it already.
        if (slot !== undefined) await hop.call(hop.stage.close(slot)).catch(() => undefined);
      }
    });
  }

  setSampling(sequence: SequenceSlot, parameters: SamplingParameters, history?: TokenHistory): Promise<void> {
    return this.#inTurn(async () => {
      const own = this.#history(sequence);
      own.sampling = { parameters, ...(history && { history }) };
      own.chosen = [];
      await this.#retrying(this.#last.begin, (hop) => hop.call(hop.stage.setSampling(hop.slot(sequence), parameters, history)));
    });
  }

  forward(batch: Batch): Promise<StepOutput> {
    return this.#inTurn(() => this.#forward(batch));
  }

  draft(): Promise<StepOutput> {
    return refused("draft");
  }

  drafted(): Promise<readonly (readonly number[])[]> {
    return refused("draft");
  }

  sampled(first: number, count: number): Promise<readonly (readonly number[])[]> {
    return this.#inTurn(async () => this.#kept(first, count).map(({ tokens = [] }) => tokens));
  }

  logprobs(first: number, count: number): Promise<readonly (readonly ChosenLogprobs[])[]> {
    return this.#inTurn(async () => this.#kept(first, count).map(({ logprobs = [] }) => logprobs));
  }

  async destroy(): Promise<void> {
    this.#closing.abort(new SwarmError("closed", "The stage was closed"));
    for (const hop of this.#hops) hop.close();
    await this.#turn;
  }

  get #last(): ActiveHop {
    const last = this.#hops.at(-1);
    if (!last) throw new SwarmError("closed", "Cannot compute: there is no path");
    return last;
  }

  #history(sequence: SequenceSlot): SequenceHistory {
    const history = this.#sequences.get(sequence);
    if (!history) throw new ModelError("unknown-sequence", `Cannot use sequence ${sequence}: it is not open`);
    return history;
  }

  #kept(first: number, count: number): readonly StepResult[] {
    return Array.from({ length: count }, (_, index) => {
      const result = this.#results.get(first + index);
      if (!result)
        throw new ModelError("bad-batch", `Cannot read step ${first + index}: it is not there, or more than ${KEPT_STEPS} steps ago`);
      return result;
    });
  }

  async #forward(batch: Batch): Promise<StepOutput> {
    const entries = batch.entries.map((given): Entry => {
      const history = this.#history(given.sequence);
      if ((given.verify ?? 0) > 0) throw new ModelError("unsupported", "Cannot verify a draft: a swarm's stage has no MTP module");
      if (given.tokens !== "sampled") return { given, history, tokens: given.tokens };
      if (history.last === undefined)
        throw new ModelError("bad-batch", `Cannot go on with a sampled token: sequence ${given.sequence} has none`);
      return { given, history, tokens: [history.last] };
    });
    const before = entries.map(({ history }) => history.length());
    try {
      const output = await this.#runStep(batch, entries);
      const step = this.#step++;
      this.#results.set(step, output.result);
      this.#results.delete(step - KEPT_STEPS);
      return { ...output.output, step };
    } catch (error) {
      await this.#undo(entries, before);
      throw error;
    }
  }

  /** From hop to hop. A fault replaces what must be replaced, and the step goes on from there. */
  async #runStep(
    batch: Batch,
    entries: readonly Entry[],
  ): Promise<{ readonly output: Omit<StepOutput, "step">; readonly result: StepResult }> {
    /** What this step gives to the stage that begins at a layer: [all tokens, hiddenSize]. */
    const inputs = new Map<number, Float32Array<ArrayBuffer> | undefined>([[0, undefined]]);
    let at = 0;
    for (;;) {
      const hop = this.#hops.find(({ begin }) => begin === at);
      if (!hop) throw new SwarmError("incomplete", `Cannot compute: nobody has the layers from ${at} on`);
      try {
        const hidden = inputs.get(at);
        const done =
          hop.end === this.#options.nLayers ? await this.#runLast(hop, batch, entries, hidden) : await this.#runInner(hop, entries, hidden);
        this.#commit(hop, entries, hidden, done);
        if (hop.end === this.#options.nLayers) {
          this.#take(batch, entries, done.result);
          return done;
        }
        inputs.set(hop.end, done.output.hidden);
        at = hop.end;
      } catch (error) {
        if (!(error instanceof HopFault)) throw error;
        // What was replaced may begin earlier, where this step has been already: it is taken back there and done again.
        at = await this.#replace(hop, error, (layer) => this.#takeBack(layer, entries, inputs));
      }
    }
  }

  async #runInner(hop: ActiveHop, entries: readonly Entry[], hidden: Float32Array<ArrayBuffer> | undefined) {
    const rows = entries.reduce((sum, { tokens }) => sum + tokens.length, 0);
    const { hidden: given } = await hop.forward({ entries: this.#entriesOf(hop, entries, hidden), output: "hidden" }, rows);
    return { output: given ? { hidden: given } : {}, result: {} };
  }

  async #runLast(hop: ActiveHop, batch: Batch, entries: readonly Entry[], hidden: Float32Array<ArrayBuffer> | undefined) {
    const { output: wanted, logprobs: wantsLogprobs = false } = batch;
    const rows = entries.reduce((sum, { tokens }) => sum + tokens.length, 0);
    const given = this.#entriesOf(hop, entries, hidden).map((entry, index) => {
      const { quiet, masks, followedBy } = batch.entries[index] ?? {};
      return { ...entry, ...(quiet !== undefined && { quiet }), ...(masks && { masks }), ...(followedBy && { followedBy }) };
    });
    const asked: Batch = { entries: given, output: wanted, ...(wantsLogprobs && { logprobs: true }) };
    const told = wanted === "sample" ? batch.entries.reduce((sum, entry) => sum + toldRows(entry), 0) : 0;
    if (told === 0) return { output: await hop.forward(asked, rows), result: {} };
    const { output, tokens, logprobs } = await hop.forwardTold(asked, rows, told);
    return { output, result: { tokens, ...(logprobs && { logprobs }) } };
  }

  #entriesOf(hop: ActiveHop, entries: readonly Entry[], hidden: Float32Array<ArrayBuffer> | undefined): readonly BatchEntry[] {
    const { hiddenSize } = this.#options;
    let row = 0;
    return entries.map(({ given: { sequence }, tokens }) => {
      const rows = hidden?.slice(row * hiddenSize, (row + tokens.length) * hiddenSize);
      row += tokens.length;
      return { sequence: hop.slot(sequence), tokens, ...(rows && { hidden: rows }) };
    });
  }

  #commit(
    hop: ActiveHop,
    entries: readonly Entry[],
    hidden: Float32Array<ArrayBuffer> | undefined,
    { output, result }: { readonly output: Omit<StepOutput, "step">; readonly result: StepResult },
  ): void {
    const { hiddenSize, onStep } = this.#options;
    let row = 0;
    const choices = result.tokens && chosenTokens(entries, result.tokens);
    for (const [index, { history, tokens, given }] of entries.entries()) {
      const part = (all: Float32Array<ArrayBuffer>): Float32Array<ArrayBuffer> =>
        all.slice(row * hiddenSize, (row + tokens.length) * hiddenSize);
      history.add(hop.begin, { tokens, ...(hidden && { hidden: part(hidden) }) });
      const token = isGreedy(history, given) ? choices?.[index] : undefined;
      onStep?.({
        hop: hop.hop,
        inputs: history.inputs(hop.begin),
        ...(output.hidden && { hidden: part(output.hidden) }),
        ...(token !== undefined && { token }),
      });
      row += tokens.length;
    }
  }

  #take(batch: Batch, entries: readonly Entry[], { tokens }: StepResult): void {
    if (batch.output !== "sample" || !tokens) return;
    for (const [index, token] of chosenTokens(entries, tokens).entries()) {
      const history = entries[index]?.history;
      if (token === undefined || !history) continue;
      history.last = token;
      history.chosen.push(token);
    }
  }

  /** This step's inputs out of the histories from a layer on, where they have been committed: wherever it has come further. */
  #takeBack(layer: number, entries: readonly Entry[], inputs: Map<number, unknown>): void {
    const furthest = Math.max(...inputs.keys());
    for (const begin of inputs.keys()) {
      if (begin < layer) continue;
      if (begin < furthest) for (const { history, tokens } of entries) history.truncate(history.length(begin) - tokens.length, begin);
      if (begin > layer) inputs.delete(begin);
    }
  }

  /** A step that was refused in the middle leaves every stage as it was. */
  async #undo(entries: readonly Entry[], before: readonly number[]): Promise<void> {
    for (const [index, { history, given }] of entries.entries()) {
      const length = before[index] ?? 0;
      history.truncate(length);
      for (const hop of this.#hops) {
        const slot = hop.slots.get(given.sequence);
        if (slot !== undefined) await hop.call(hop.stage.truncate(slot, length)).catch(() => undefined);
      }
    }
  }

  /** The same for all stages; one that fails is replaced, and asked in its new place. */
  async #everywhere(work: (hop: ActiveHop) => Promise<void>): Promise<void> {
    for (let at = 0; at < this.#options.nLayers;) at = await this.#retrying(at, work);
  }

  /** @returns where the stage ends that did it in the end */
  async #retrying(layer: number, work: (hop: ActiveHop) => Promise<void>): Promise<number> {
    let at = layer;
    for (;;) {
      const hop = this.#hops.find(({ begin }) => begin === at) ?? this.#last;
      try {
        await work(hop);
        return hop.end;
      } catch (error) {
        if (!(error instanceof HopFault)) throw error;
        at = await this.#replace(hop, error);
      }
    }
  }

  /**
   * Other peers in place of one: for its layers alone if anybody has just those, else for more around them.
   * @param before told the layer where what is replaced begins, before anything is computed again
   * @returns that layer
   */
  async #replace(hop: ActiveHop, fault: HopFault, before: (layer: number) => void = () => {}): Promise<number> {
    const without = new Set<string>();
    let current: { readonly hop: ActiveHop; readonly fault: HopFault } = { hop, fault };
    for (;;) {
      without.add(current.fault.peer);
      this.#options.onFault?.(current.fault.peer, current.fault.fault, current.fault);
      current.hop.close();
      const { range, hops } = await this.#openInstead(current.hop, without);
      try {
        before(range.begin);
        await this.#rebuild(hops);
        const gone = this.#hops.filter(({ begin }) => begin >= range.begin && begin < range.end);
        for (const one of gone) {
          one.close();
          if (!hops.some(({ begin }) => begin === one.begin)) for (const history of this.#sequences.values()) history.drop(one.begin);
        }
        this.#hops = [...this.#hops.filter((one) => !gone.includes(one)), ...hops].sort((a, b) => a.begin - b.begin);
        this.#replaced += hops.length;
        return range.begin;
      } catch (error) {
        for (const one of hops) one.close();
        if (!(error instanceof HopFault)) throw error;
        current = { hop: current.hop, fault: error };
      }
    }
  }

  async #openInstead(hop: ActiveHop, without: Set<string>): Promise<{ readonly range: LayerRange; readonly hops: readonly ActiveHop[] }> {
    const { nLayers, plan, patienceMs = PATIENCE_MS } = this.#options;
    const end = this.#clock.now() + patienceMs;
    const wait = this.#waiting(hop.hop.layers, patienceMs);
    for (;;) {
      for (const layers of this.#widening(hop)) {
        if (!plan({ layers, without })) continue;
        try {
          return { range: layers, hops: await this.#openPath(layers, without, 0) };
        } catch (error) {
          if (!(error instanceof SwarmError)) throw error;
        }
      }
      if (this.#clock.now() >= end)
        throw new SwarmError(
          "incomplete",
          `Cannot go on: nobody has taken the place of '${hop.hop.peer}', layers ${hop.begin} to ${hop.end - 1} of ${nLayers}`,
          { field: "layers", actual: hop.hop.layers, expected: "a peer that holds them" },
        );
      wait(without);
      await pause(this.#clock, LOOK_AGAIN_MS, this.#closing.signal);
      // Those who were only slow, or out of reach for a moment, may be what is left.
      if (this.#clock.now() >= end - patienceMs / 2) without.clear();
    }
  }

  /** The hop's own layers, then with its neighbours', up to the whole model. */
  #widening(hop: ActiveHop): readonly LayerRange[] {
    const begins = [...new Set(this.#hops.map(({ begin }) => begin))].filter((begin) => begin <= hop.begin).sort((a, b) => b - a);
    const ends = [...new Set(this.#hops.map((one) => one.end))].filter((end) => end >= hop.end).sort((a, b) => a - b);
    return begins.flatMap((begin) => ends.map((end) => ({ begin, end }))).sort((a, b) => a.end - a.begin - (b.end - b.begin));
  }

  /** Opens a chain; whoever does not answer is left out and another looked for. */
  async #openPath(layers: LayerRange, without: Set<string>, patienceMs = this.#options.patienceMs ?? PATIENCE_MS): Promise<ActiveHop[]> {
    const { plan, open, stallMs = STALL_MS, onFault } = this.#options;
    const began = this.#clock.now();
    const until = began + patienceMs;
    const wait = this.#waiting(layers, patienceMs);
    for (;;) {
      this.#closing.signal.throwIfAborted();
      const hops = plan({ layers, without });
      if (!hops) {
        if (this.#clock.now() >= until)
          throw new SwarmError("incomplete", `Cannot compute: ${this.#lack(layers, without)}`, {
            field: "layers",
            actual: this.#options.missing({ layers, without }),
            expected: `a chain of peers for layers ${layers.begin} to ${layers.end - 1}`,
          });
        if (this.#clock.now() - began >= HEARD_ALL_MS) wait(without);
        await pause(this.#clock, LOOK_AGAIN_MS, this.#closing.signal);
        continue;
      }
      const results = await Promise.allSettled(
        hops.map(async (hop) => ActiveHop.open(hop, await open(hop), this.#options, this.#clock, stallMs)),
      );
      const opened = results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
      if (opened.length === hops.length) return opened;
      for (const hop of opened) hop.close();
      for (const [index, result] of results.entries()) {
        const peer = hops[index]?.peer;
        if (result.status !== "rejected" || peer === undefined) continue;
        without.add(peer);
        const error = result.reason instanceof Error ? result.reason : new SwarmError("link-lost", String(result.reason));
        onFault?.(peer, error instanceof HopFault ? error.fault : "lost", error);
      }
    }
  }

  /** Tells of what is waited for, once, and again where it changes. */
  #waiting(layers: LayerRange, patienceMs: number): (without: ReadonlySet<string>) => void {
    let told = "";
    return (without) => {
      const what = this.#lack(layers, without);
      if (what === told) return;
      told = what;
      this.#options.onWait?.(what, patienceMs);
    };
  }

  #lack(layers: LayerRange, without: ReadonlySet<string>): string {
    const missing = this.#options
      .missing({ layers, without })
      .map(({ begin, end }) => (end - begin === 1 ? `${begin}` : `${begin} to ${end - 1}`));
    if (missing.length === 0) return `no chain of peers leads through layers ${layers.begin} to ${layers.end - 1}`;
    const silent = without.size > 0 ? `; ${without.size} did not answer, or answered wrongly` : "";
    return `no peer holds layers ${missing.join(", ")} of ${this.#options.nLayers}${silent}`;
  }

  /** Gives new stages what the old ones were given. */
  async #rebuild(hops: readonly ActiveHop[]): Promise<void> {
    const { nLayers, hiddenSize } = this.#options;
    for (const [sequence, history] of this.#sequences) {
      let inputs: SequenceHistory = history;
      for (const [index, hop] of hops.entries()) {
        const slot = await hop.call(hop.stage.open());
        hop.slots.set(sequence, slot);
        const { sampling, chosen } = history;
        if (hop.end === nLayers && sampling) {
          const { promptIds = [], generatedIds = [] } = sampling.history ?? {};
          const known = { promptIds, generatedIds: [...generatedIds, ...chosen] };
          await hop.call(hop.stage.setSampling(slot, sampling.parameters, known));
        }
        const onward = index + 1 < hops.length;
        const next = new SequenceHistory(hiddenSize);
        for (const { tokens, hidden } of inputs.pieces(hop.begin, hop.description.maxTokens)) {
          const entries = [{ sequence: slot, tokens, ...(hidden && { hidden }) }];
          const output = await hop.forward({ entries, output: onward ? "hidden" : "none" }, tokens.length);
          if (onward && output.hidden) next.add(hop.end, { tokens, hidden: output.hidden });
        }
        if (onward) {
          history.drop(hop.end);
          for (const input of next.inputs(hop.end)) history.add(hop.end, input);
        }
        inputs = history;
      }
    }
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(() => {
      this.#closing.signal.throwIfAborted();
      return work();
    });
    this.#turn = result.catch(() => undefined);
    return result;
  }
}

/** Of what a step tells: the token chosen after the last one of each entry, none of a quiet one. */
function chosenTokens(entries: readonly Entry[], told: readonly number[]): readonly (number | undefined)[] {
  let end = 0;
  return entries.map(({ given }) => {
    end += toldRows(given);
    return given.quiet === true ? undefined : told[end - 1];
  });
}

/** The likeliest token is chosen, whatever came before. */
function isGreedy({ sampling }: SequenceHistory, { masks }: BatchEntry): boolean {
  if (masks) return false;
  if (!sampling) return true;
  const { temperature, ...others } = sampling.parameters;
  const plain = ["topK", "topP", "minP", "seed"];
  return temperature === 0 && Object.entries(others).every(([name, value]) => plain.includes(name) || value === undefined);
}

function refused(what: string): Promise<never> {
  return Promise.reject(new ModelError("unsupported", `Cannot ${what}: a swarm's stage does not`));
}
