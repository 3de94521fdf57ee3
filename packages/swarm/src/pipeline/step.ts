/**
 * One step of some sequences through the stages of a path: what goes to each, what is kept of it, and what becomes of the step when a stage fails in the middle.
 *
 * Stages that push get the step all at once, each with the number by which its input comes from the one before: a step takes half a round trip for each, and half a one back. What each
 * gives comes to the client as well, on the way of its own that is shorter than the one through the others, and is waited for: so whatever a stage was given is here as ever, a stage that
 * is lost is replaced alone, and a step that stopped half-way goes on from the last output that came. Stages tell the digest of what was pushed to them, which must be that of what came here: audits
 * judge a stage by the input that it really had.
 */
import type { Drafting } from "@shoal/cluster";
import { type Batch, type BatchEntry, type ChosenLogprobs, type StepOutput, toldRows } from "@shoal/model";
import type { Hop } from "../plan/path.ts";
import { digestOf } from "../push/messages.ts";
import type { PushedStep } from "../push/remotePushing.ts";
import type { ActivePath, Reached } from "./activePath.ts";
import type { LayerRange } from "../plan/range.ts";
import type { SequenceHistory, StageInput } from "./history.ts";
import { type ActiveHop, HopFault, type ModelShape } from "./hop.ts";
import type { PushPair } from "./pushPairs.ts";
import type { Walker } from "./recovery.ts";

/** What one stage did in one step for one sequence. */
export interface ObservedStep {
  readonly hop: Hop;
  readonly inputs: readonly StageInput[];
  /** [tokens of the last input, hiddenSize]; of every stage but the last. */
  readonly hidden?: Float32Array<ArrayBuffer>;
  /** Where it went by KV rows of another peer's, and nobody can tell whose fault it is if they were wrong: what makes the stage be replaced. */
  readonly doubt?: (reason: string) => void;
  /** Chosen by the last stage, where that is the likeliest one and nothing else. */
  readonly token?: number;
}

export interface StepEntry {
  readonly given: BatchEntry;
  readonly history: SequenceHistory;
  /** With those that are verified. */
  readonly tokens: readonly number[];
}

/** What the last stage tells of a step, where it is to choose. */
export interface StepResult {
  /** For each entry that is not quiet; none where there was nothing to draft with. */
  readonly drafts?: readonly (readonly number[])[];
  /** Who drafted. */
  readonly drafter?: ActiveHop;
  readonly tokens?: readonly number[];
  readonly logprobs?: readonly ChosenLogprobs[];
}

export interface StepDone {
  readonly output: Omit<StepOutput, "step">;
  readonly result: StepResult;
}

type Hidden = Float32Array<ArrayBuffer> | undefined;

export interface StepOptions {
  readonly path: ActivePath;
  readonly shape: ModelShape;
  readonly onStep?: ((step: ObservedStep) => void) | undefined;
  /** Drafts that the last stage makes after it, if it can. */
  readonly drafts?: number;
}

/** After the client has what a stage pushed, until it asks whether the next one has it too. */
const LATE_MS = 1000;

/** A stage did not take what the one before it pushed; or, where they disagree, took something else than what that one says that it gave. */
class PushFault extends Error {
  readonly pair: PushPair;
  readonly disagree: boolean;
  constructor(pair: PushPair, disagree: boolean) {
    super(`Cannot go on with what '${pair.from.hop.peer}' pushed to '${pair.to.hop.peer}'`);
    this.pair = pair;
    this.disagree = disagree;
  }
}

/** A step that one stage of several was given at once. */
interface PushedCall extends Reached {
  readonly batch: Batch;
  readonly told: number | undefined;
  readonly drafting: Drafting | undefined;
  readonly take: number | undefined;
  readonly running: Promise<PushedStep>;
}

export class Step implements Walker {
  readonly #path: ActivePath;
  readonly #shape: ModelShape;
  readonly #onStep: ((step: ObservedStep) => void) | undefined;
  readonly #drafts: number;
  readonly #batch: Batch;
  readonly #entries: readonly StepEntry[];
  readonly #rows: number;
  /** What this step gives to the stage that begins at a layer: [all tokens, hiddenSize]. */
  readonly #inputs = new Map<number, Hidden>([[0, undefined]]);
  /** The layer that it has come to. */
  #at = 0;

  constructor({ path, shape, onStep, drafts = 0 }: StepOptions, batch: Batch, entries: readonly StepEntry[]) {
    this.#path = path;
    this.#shape = shape;
    this.#onStep = onStep;
    this.#drafts = drafts;
    this.#batch = batch;
    this.#entries = entries;
    this.#rows = entries.reduce((sum, { tokens }) => sum + tokens.length, 0);
  }

  /** From hop to hop. A fault replaces what must be replaced, and the step goes on from there. */
  async run(): Promise<StepDone> {
    for (this.#at = 0; ;) {
      const reached = this.#path.reach(this.#at);
      try {
        const done = reached.length > 1 ? await this.#runPushed(reached) : await this.#runOne(reached[0].hop);
        if (done) return done;
      } catch (error) {
        if (error instanceof PushFault) this.#path.pairs[error.disagree ? "distrust" : "rest"](error.pair);
        else if (error instanceof HopFault) await this.#path.recovery.replaced(this, this.#path.at(this.#at), error);
        else throw error;
      }
    }
  }

  /** @returns what came out at the end of the model */
  async #runOne(hop: ActiveHop): Promise<StepDone | undefined> {
    const { batch, told, drafting } = this.#batchFor(hop, this.#inputs.get(hop.begin));
    if (told !== undefined) {
      const { output, ...rest } = await hop.forwardTold(batch, this.#rows, told, drafting);
      return this.#through(hop, { output, result: { ...rest, drafter: hop } });
    }
    const { step: _, ...output } = await hop.forward(batch, this.#rows);
    return this.#through(hop, { output, result: {} });
  }

  async #runPushed(reached: readonly Reached[]): Promise<StepDone | undefined> {
    const calls = this.#push(reached);
    let done: StepDone | undefined;
    try {
      for (const [index, call] of calls.entries()) {
        const { hop, by } = call;
        const input = this.#inputs.get(hop.begin);
        const given = await this.#awaited(call, input);
        if (by && input && given.taken !== (await digestOf(input))) throw new PushFault(by, true);
        const { output, tokens, logprobs, drafts, gave } = given;
        const { step: _, ...values } = output;
        const result = call.told === undefined ? {} : { tokens, ...(logprobs && { logprobs }), drafts, drafter: hop };
        done = this.#through(hop, { output: values, result });
        const next = calls[index + 1];
        if (next?.by && !gave) this.#supply(next, next.by, values.hidden);
      }
      return done;
    } catch (error) {
      for (const call of calls.filter(({ hop }) => hop.begin >= this.#at)) this.#recall(call);
      throw error;
    }
  }

  /** In one turn, so that numbers come to each stage in their order. */
  #push(reached: readonly Reached[]): readonly PushedCall[] {
    const takes = reached.map(({ by }) => by?.next());
    return reached.map(({ hop, by }, index): PushedCall => {
      const { batch, told, drafting } = this.#batchFor(hop, index === 0 ? this.#inputs.get(hop.begin) : undefined);
      const take = takes[index];
      const running = hop.pushing?.step(batch, { take, give: takes[index + 1], told: told !== undefined, drafting });
      if (!running) throw new HopFault(hop.hop.peer, "lied", "it does not push any more");
      // Looked at when those before it have answered, or not at all.
      running.catch(() => {});
      return { hop, ...(by && { by }), batch, told, drafting, take, running };
    });
  }

  /** Whoever waits for something that does not come gets it from here. */
  async #awaited(call: PushedCall, input: Hidden): Promise<PushedStep> {
    const { hop, by, batch, told, drafting, take, running } = call;
    let cancel: () => void = () => {};
    if (by && take !== undefined)
      cancel = this.#path.clock.after(LATE_MS, () => {
        const ask = async (): Promise<void> => {
          if ((await hop.pushing?.isWaiting(take)) === true) this.#supply(call, by, input);
        };
        void ask().catch(() => {});
      });
    try {
      return await hop.pushed(running, batch, this.#rows, told, drafting);
    } catch (error) {
      // By name: it has crossed a channel. What the stage itself refuses has other names.
      if (by && error instanceof Error && error.name === "SwarmError" && !(error instanceof HopFault))
        throw new PushFault(by, "code" in error && error.code === "malformed");
      throw error;
    } finally {
      cancel();
    }
  }

  #supply({ hop, take }: PushedCall, by: PushPair, input: Hidden): void {
    this.#path.pairs.rest(by);
    if (take !== undefined && input) void hop.pushing?.supply(take, input).catch(() => {});
  }

  /** Nothing of this step stays at a stage that had it, or may still get it. A link keeps its order: what is computed there later comes after this. */
  #recall({ hop, take }: PushedCall): void {
    const lost = (): void => {};
    if (take !== undefined) void hop.pushing?.cancel(take).catch(lost);
    for (const { given, history } of this.#entries) {
      const slot = hop.slots.get(given.sequence);
      if (slot === undefined) continue;
      void hop.stage.truncate(slot, history.length(hop.begin)).catch(lost);
      const sampling = hop.end === this.#shape.nLayers ? history.samplingSoFar() : undefined;
      // A token that was chosen there, and is not known here, would count for penalties.
      if (sampling) void hop.stage.setSampling(slot, sampling.parameters, sampling.history).catch(lost);
    }
  }

  /** It has come through a stage. @returns it, at the end of the model */
  #through(hop: ActiveHop, done: StepDone): StepDone | undefined {
    this.#commit(hop, this.#inputs.get(hop.begin), done);
    if (hop.end === this.#shape.nLayers) {
      this.#take(done.result);
      return done;
    }
    this.#inputs.set(hop.end, done.output.hidden);
    this.#at = hop.end;
    return undefined;
  }

  /** What a stage is asked, and how many tokens it tells of, if it is asked for them. */
  #batchFor(hop: ActiveHop, hidden: Hidden): Pick<PushedCall, "batch" | "told" | "drafting"> {
    const given = this.#entriesOf(hop, hidden);
    if (hop.end < this.#shape.nLayers) return { batch: { entries: given, output: "hidden" }, told: undefined, drafting: undefined };
    const { output, logprobs = false, entries } = this.#batch;
    const last = given.map((entry, index): BatchEntry => {
      const { quiet, masks, followedBy, verify = 0 } = entries[index] ?? {};
      // The stage has its drafts, and knows their number alone.
      const tokens = verify > 0 && entry.tokens !== "sampled" ? entry.tokens.slice(0, -verify) : entry.tokens;
      const more = { ...(quiet !== undefined && { quiet }), ...(masks && { masks }), ...(followedBy && { followedBy }) };
      return { ...entry, tokens, ...more, ...(verify > 0 && { verify }) };
    });
    const told = output === "sample" ? entries.reduce((sum, entry) => sum + toldRows(entry), 0) : 0;
    const drafts = output === "sample" && hop.description.hasMtp ? Math.min(this.#drafts, hop.description.maxDrafts) : 0;
    return {
      batch: { entries: last, output, ...(logprobs && { logprobs: true }) },
      told: told === 0 && drafts === 0 ? undefined : told,
      drafting: drafts > 0 ? this.#drafting(drafts) : undefined,
    };
  }

  #drafting(drafts: number): Drafting {
    return {
      drafts,
      guesses: this.#entries.map(({ given: { verify = 0 }, tokens }) => tokens.slice(tokens.length - verify)),
      following: this.#entries.map(({ given: { verify = 0, quiet = false }, tokens }) => {
        const known = tokens.slice(1, tokens.length - verify);
        // What follows the piece of a prompt is not known yet: in the module's cache, which decides about nothing, one row in many is wrong.
        return quiet ? [...known, tokens.at(-1) ?? 0] : known;
      }),
    };
  }

  #entriesOf(hop: ActiveHop, hidden: Hidden): readonly BatchEntry[] {
    const { hiddenSize } = this.#shape;
    let row = 0;
    return this.#entries.map(({ given: { sequence }, tokens }) => {
      const rows = hidden?.slice(row * hiddenSize, (row + tokens.length) * hiddenSize);
      row += tokens.length;
      return { sequence: hop.slot(sequence), tokens, ...(rows && { hidden: rows }) };
    });
  }

  #commit(hop: ActiveHop, hidden: Hidden, { output, result }: StepDone): void {
    const { hiddenSize } = this.#shape;
    let row = 0;
    const choices = result.tokens && chosenTokens(this.#entries, result.tokens);
    for (const [index, { history, tokens, given }] of this.#entries.entries()) {
      const part = (all: Float32Array<ArrayBuffer>): Float32Array<ArrayBuffer> =>
        all.slice(row * hiddenSize, (row + tokens.length) * hiddenSize);
      history.add(hop.begin, { tokens, ...(hidden && { hidden: part(hidden) }) });
      const token = isGreedy(history, given) ? choices?.[index] : undefined;
      this.#onStep?.({
        hop: hop.hop,
        inputs: history.inputs(hop.begin),
        ...(output.hidden && { hidden: part(output.hidden) }),
        ...(token !== undefined && { token }),
        ...(hop.inherited.has(given.sequence) && { doubt: (reason) => hop.doubt(reason) }),
      });
      row += tokens.length;
    }
  }

  #take({ tokens: told }: StepResult): void {
    if (this.#batch.output !== "sample" || !told) return;
    let end = 0;
    for (const { given, history, tokens } of this.#entries) {
      end += toldRows(given);
      if (given.quiet === true) continue;
      const { verify = 0 } = given;
      const own = told.slice(end - 1 - verify, end);
      let right = 0;
      while (right < verify && tokens[tokens.length - verify + right] === own[right]) right++;
      history.last = own[right];
      history.chosen.push(...own.slice(0, right + 1));
    }
  }

  /** What was replaced may begin where this step has been already: its inputs from there on are out of the histories, where they have been committed, and it is done again from there. */
  takeBack({ begin: layer, end }: LayerRange): void {
    if (this.#at < layer || this.#at >= end) return;
    const inputs = this.#inputs;
    for (const begin of inputs.keys()) {
      if (begin < layer) continue;
      if (begin < this.#at) for (const { history, tokens } of this.#entries) history.truncate(history.length(begin) - tokens.length, begin);
      if (begin > layer) inputs.delete(begin);
    }
    this.#at = layer;
  }
}

/** Of what a step tells: the token chosen after the last one of each entry, none of a quiet one. */
function chosenTokens(entries: readonly StepEntry[], told: readonly number[]): readonly (number | undefined)[] {
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
