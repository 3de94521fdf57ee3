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
  /** Each with a row, and one more for each draft that it verified. */
  readonly entries: readonly (SampledRow & { readonly verify: number })[];
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
  /** If the step chained. */
  readonly settled?: SettledRows | undefined;
}

interface Reading {
  readonly steps: readonly SubmittedStep[];
  readonly tokens: Promise<readonly (readonly number[])[]>;
  readonly logprobs: Promise<readonly (readonly ChosenLogprobs[])[]> | undefined;
}

const MOST_READINGS = 2;

export class Readings {
  readonly #stage: Stage;
  readonly #pacer = new ReadPacer();
  #unread: SubmittedStep[] = [];
  readonly #readings: Reading[] = [];
  #arrivedAt = 0;

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
    return this.#readings.some(({ steps }) => steps.some(({ chain }) => chain));
  }

  get full(): boolean {
    return this.#readings.length >= MOST_READINGS;
  }

  /**
   * A step was submitted. It is read at once if somebody waits for a first token or a prompt was computed, whose reading is also what keeps the device's queue short; otherwise
   * with as many others as make readings cheap.
   */
  add(step: SubmittedStep): void {
    this.#unread.push(step);
    if (step.chain) {
      // What came before is read by itself: chained steps' numbers do not follow one another.
      this.#unread.pop();
      this.read();
      this.#unread.push(step);
    }
    if (!step.decodes || step.masked || step.chain || this.#unread.length >= this.#pacer.steps) this.read();
  }

  /** Starts reading what is unread, right behind its steps. */
  read(): void {
    const steps = this.#unread;
    const [first] = steps;
    if (!first) return;
    this.#unread = [];
    const tokens = this.#stage.sampled(first.step, steps.length);
    const logprobs = steps.some((step) => step.logprobs) ? this.#stage.logprobs(first.step, steps.length) : undefined;
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
    if (!reading) return { tokens: [], steps: 0, decodeMs: undefined };
    const [tokens, logprobs] = await Promise.all([reading.tokens, reading.logprobs]);
    this.#readings.shift();
    const now = performance.now();
    const decodeMs = this.#arrivedAt > 0 && reading.steps.every(({ decodes }) => decodes) ? now - this.#arrivedAt : undefined;
    const chain = reading.steps[0]?.chain;
    if (decodeMs !== undefined && !chain) this.#pacer.record(reading.steps.length, decodeMs);
    this.#arrivedAt = now;
    const all = reading.steps.flatMap(({ rows }, index) => {
      const ids = tokens[index] ?? [];
      if (ids.length !== rows.length) throw new Error(`The stage gave ${ids.length} tokens for a step that chose ${rows.length}`);
      return rows.map((row, place) => ({ row, id: ids[place] ?? 0, logprobs: logprobs?.[index]?.[place] }));
    });
    if (!chain) return { tokens: all, steps: reading.steps.length, decodeMs };
    let at = 0;
    const entries = chain.entries.map((entry) => {
      const own = all.slice(at, (at += 1 + entry.verify));
      return { ...entry, right: own.filter(({ id }) => id !== NO_TOKEN).length - 1 };
    });
    return { tokens: all.filter(({ id }) => id !== NO_TOKEN), steps: 1, decodeMs, settled: { drafts: chain.drafts, entries } };
  }
}
