/** One step of some sequences through the stages of a path: what goes to each, what is kept of it, and what becomes of the step when a stage fails in the middle. */
import { type Batch, type BatchEntry, type ChosenLogprobs, type StepOutput, toldRows } from "@shoal/model";
import type { Hop } from "../plan/path.ts";
import type { ActivePath } from "./activePath.ts";
import type { SequenceHistory, StageInput } from "./history.ts";
import { type ActiveHop, HopFault, type ModelShape } from "./hop.ts";

/** What one stage did in one step for one sequence. */
export interface ObservedStep {
  readonly hop: Hop;
  readonly inputs: readonly StageInput[];
  /** [tokens of the last input, hiddenSize]; of every stage but the last. */
  readonly hidden?: Float32Array<ArrayBuffer>;
  /** Chosen by the last stage, where that is the likeliest one and nothing else. */
  readonly token?: number;
}

export interface StepEntry {
  readonly given: BatchEntry;
  readonly history: SequenceHistory;
  readonly tokens: readonly number[];
}

/** What the last stage tells of a step, where it is to choose. */
export interface StepResult {
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
}

export class Step {
  readonly #path: ActivePath;
  readonly #shape: ModelShape;
  readonly #onStep: ((step: ObservedStep) => void) | undefined;
  readonly #batch: Batch;
  readonly #entries: readonly StepEntry[];
  readonly #rows: number;
  /** What this step gives to the stage that begins at a layer: [all tokens, hiddenSize]. */
  readonly #inputs = new Map<number, Hidden>([[0, undefined]]);

  constructor({ path, shape, onStep }: StepOptions, batch: Batch, entries: readonly StepEntry[]) {
    this.#path = path;
    this.#shape = shape;
    this.#onStep = onStep;
    this.#batch = batch;
    this.#entries = entries;
    this.#rows = entries.reduce((sum, { tokens }) => sum + tokens.length, 0);
  }

  /** From hop to hop. A fault replaces what must be replaced, and the step goes on from there. */
  async run(): Promise<StepDone> {
    let at = 0;
    for (;;) {
      const hop = this.#path.at(at);
      const isLast = hop.end === this.#shape.nLayers;
      try {
        const hidden = this.#inputs.get(at);
        const done = isLast ? await this.#runLast(hop, hidden) : await this.#runInner(hop, hidden);
        this.#commit(hop, hidden, done);
        if (isLast) {
          this.#take(done.result);
          return done;
        }
        this.#inputs.set(hop.end, done.output.hidden);
        at = hop.end;
      } catch (error) {
        if (!(error instanceof HopFault)) throw error;
        // What was replaced may begin earlier, where this step has been already: it is taken back there and done again.
        at = await this.#path.replace(hop, error, (layer) => this.#takeBack(layer));
      }
    }
  }

  async #runInner(hop: ActiveHop, hidden: Hidden): Promise<StepDone> {
    const { hidden: given } = await hop.forward({ entries: this.#entriesOf(hop, hidden), output: "hidden" }, this.#rows);
    return { output: given ? { hidden: given } : {}, result: {} };
  }

  async #runLast(hop: ActiveHop, hidden: Hidden): Promise<StepDone> {
    const batch = this.#batch;
    const { output: wanted, logprobs: wantsLogprobs = false } = batch;
    const given = this.#entriesOf(hop, hidden).map((entry, index) => {
      const { quiet, masks, followedBy } = batch.entries[index] ?? {};
      return { ...entry, ...(quiet !== undefined && { quiet }), ...(masks && { masks }), ...(followedBy && { followedBy }) };
    });
    const asked: Batch = { entries: given, output: wanted, ...(wantsLogprobs && { logprobs: true }) };
    const told = wanted === "sample" ? batch.entries.reduce((sum, entry) => sum + toldRows(entry), 0) : 0;
    if (told === 0) return { output: await hop.forward(asked, this.#rows), result: {} };
    const { output, tokens, logprobs } = await hop.forwardTold(asked, this.#rows, told);
    return { output, result: { tokens, ...(logprobs && { logprobs }) } };
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
      });
      row += tokens.length;
    }
  }

  #take({ tokens }: StepResult): void {
    if (this.#batch.output !== "sample" || !tokens) return;
    for (const [index, token] of chosenTokens(this.#entries, tokens).entries()) {
      const history = this.#entries[index]?.history;
      if (token === undefined || !history) continue;
      history.last = token;
      history.chosen.push(token);
    }
  }

  /** This step's inputs out of the histories from a layer on, where they have been committed: wherever it has come further. */
  #takeBack(layer: number): void {
    const inputs = this.#inputs;
    const furthest = Math.max(...inputs.keys());
    for (const begin of inputs.keys()) {
      if (begin < layer) continue;
      if (begin < furthest) for (const { history, tokens } of this.#entries) history.truncate(history.length(begin) - tokens.length, begin);
      if (begin > layer) inputs.delete(begin);
    }
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
