/** Steps whose tokens are not known here yet: submitted and unread, or being read. At most two readings are under way, one behind the other. */
import { type ChosenLogprobs, NO_TOKEN, type Stage } from "@shoal/model";
import type { ActiveRequest, Placement } from "./activeRequest.ts";
import { ReadPacer } from "./readPacer.ts";

/** Who a sampled token belongs to. */
export interface SampledRow {
  readonly request: ActiveRequest;
  /** Where it was then: a request that has lost its place since gets nothing. */
  readonly placement: Placement;
  /** It was not chosen: it is the prompt's token there. */
  readonly promptPosition?: number;
}

export interface KnownToken {
  readonly row: SampledRow;
  readonly id: number;
  /** Where the step's batch asked for them. */
  readonly logprobs?: ChosenLogprobs | undefined;
}

export interface SubmittedStep {
  readonly step: number;
  readonly rows: readonly SampledRow[];
  /** Nothing but a token of each stream was computed. */
  readonly decodes: boolean;
  /** Log-probabilities are to be read. */
  readonly logprobs: boolean;
  /** Somebody's next token waits for one of it. */
  readonly masked: boolean;
  /** Of a step that chains: which drafts were right is told by which rows got a token. */
  readonly chain?: ChainedRows;
}

export interface ChainedRows {
  /** Made after it, for each stream. */
  readonly drafts: number;
  /** Each with `given` rows whose tokens were known and then, unless it is quiet, a row and one more for each draft that it verified. */
  readonly entries: readonly (SampledRow & { readonly given: number; readonly quiet: boolean; readonly verify: number })[];
}

/** What of a chained step's drafts came true. */
export interface SettledRows {
  readonly drafts: number;
  readonly entries: readonly (SampledRow & { readonly verify: number; readonly right: number })[];
}

export interface KnownTokens {
  readonly tokens: readonly KnownToken[];
  readonly steps: number;
  /** Since the reading before arrived, if nothing but decoding was in between. */
  readonly decodeMs: number | undefined;
  /** Whether the reading before was of a step with a prompt, over which drafts' module ran since. */
  readonly afterPrompt: boolean;
  /** Of each step that chained. */
  readonly settled: readonly SettledRows[];
}

interface Reading {
  readonly steps: readonly SubmittedStep[];
  readonly tokens: Promise<readonly (readonly number[])[]>;
  readonly logprobs: Promise<readonly (readonly ChosenLogprobs[])[]> | undefined;
}

const MOST_READINGS = 2;
/** Chained steps read at once, at most: with their drafts, which have numbers of their own, they are half of the steps that a stage keeps. */
const MOST_CHAINED = 8;

export class Readings {
  readonly #stage: Stage;
  readonly #pacer = new ReadPacer();
  readonly #chainPacer = new ReadPacer({ maxSteps: MOST_CHAINED });
  #unread: SubmittedStep[] = [];
  readonly #readings: Reading[] = [];
  #arrivedAt = 0;
  #promptBefore = false;

  constructor(stage: Stage) {
    this.#stage = stage;
  }

  /** Whether anything is still to be known. */
  get pending(): boolean {
    return this.#unread.length > 0 || this.#readings.length > 0;
  }

  /** Whether the next step, one that only decodes, will be read as soon as it is submitted. */
  get due(): boolean {
    return this.#unread.length + 1 >= this.#pacer.steps;
  }

  /** Whether places are not known here, because steps that chain are still to be read. */
  get unsettled(): boolean {
    return [...this.#unread, ...this.#readings.flatMap(({ steps }) => steps)].some(({ chain }) => chain);
  }

  get full(): boolean {
    return this.#readings.length >= MOST_READINGS;
  }

  /**
   * A step was submitted. It is read at once if somebody waits for a first token or a prompt was computed, whose reading is also what keeps the device's queue short; otherwise
   * with as many others as make readings cheap.
   */
  add(step: SubmittedStep): void {
    // Readings are of one kind of steps, whose time is measured by them.
    if (this.#unread.some(({ chain }) => chain?.drafts !== step.chain?.drafts)) this.read();
    this.#unread.push(step);
    const { steps } = step.chain ? this.#chainPacer : this.#pacer;
    if (!step.decodes || step.masked || this.#unread.length >= steps) this.read();
  }

  /** Starts reading what is unread, right behind its steps. */
  read(): void {
    const steps = this.#unread;
    const [first, last] = [steps[0], steps.at(-1)];
    if (!first || !last) return;
    this.#unread = [];
    // Between steps that chain lie those that drafted.
    const count = last.step - first.step + 1;
    const tokens = this.#stage.sampled(first.step, count);
    const logprobs = steps.some((step) => step.logprobs) ? this.#stage.logprobs(first.step, count) : undefined;
    // They may be dropped unread.
    tokens.catch(() => {});
    logprobs?.catch(() => {});
    this.#readings.push({ steps, tokens, logprobs });
  }

  /** Other work lies between the last reading and the next. */
  interrupt(): void {
    this.#arrivedAt = 0;
  }

  /** The oldest reading's tokens, when they are there: each with whom it is for, in the order in which they were chosen. */
  async next(): Promise<KnownTokens> {
    const reading = this.#readings[0];
    if (!reading) return { tokens: [], steps: 0, decodeMs: undefined, afterPrompt: false, settled: [] };
    const [tokens, logprobs] = await Promise.all([reading.tokens, reading.logprobs]);
    this.#readings.shift();
    const now = performance.now();
    const decoding = reading.steps.every(({ decodes }) => decodes);
    const decodeMs = this.#arrivedAt > 0 && decoding ? now - this.#arrivedAt : undefined;
    const afterPrompt = this.#promptBefore;
    this.#promptBefore = !decoding;
    const [first] = reading.steps;
    if (decodeMs !== undefined) (first?.chain ? this.#chainPacer : this.#pacer).record(reading.steps.length, decodeMs);
    this.#arrivedAt = now;
    const known = reading.steps.map(({ step, rows, chain }) => {
      const index = step - (first?.step ?? 0);
      const ids = tokens[index] ?? [];
      if (ids.length !== rows.length) throw new Error(`The stage gave ${ids.length} tokens for a step that chose ${rows.length}`);
      const told = rows.map((row, place) => ({ row, id: ids[place] ?? 0, logprobs: logprobs?.[index]?.[place] }));
      return { told: chain ? told.filter(({ id }) => id !== NO_TOKEN) : told, settled: chain ? [settledRows(chain, ids)] : [] };
    });
    return {
      tokens: known.flatMap(({ told }) => told),
      steps: reading.steps.length,
      decodeMs,
      afterPrompt,
      settled: known.flatMap(({ settled }) => settled),
    };
  }
}

function settledRows({ drafts, entries }: ChainedRows, ids: readonly number[]): SettledRows {
  let at = 0;
  return {
    drafts,
    entries: entries.map(({ request, placement, given, quiet, verify }) => {
      at += given;
      const own = ids.slice(at, (at += quiet ? 0 : 1 + verify));
      return { request, placement, verify, right: Math.max(0, own.filter((id) => id !== NO_TOKEN).length - 1) };
    }),
  };
}
