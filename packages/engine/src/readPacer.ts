/**
 * How many steps' tokens to read from the device at once. A readback may cost more than a step (Deno's wgpu: at least 11 ms, whatever is read), and then tokens come
 * faster in batches; where it costs nothing, batches only make the text jerky. So the size is found by trying: it doubles as long as that makes a token cheaper.
 */
export interface ReadPacerOptions {
  readonly maxSteps?: number;
  /** No batch is grown beyond this time: text should flow. */
  readonly maxBatchMs?: number;
}

/** The stage keeps 64 steps' tokens: two batches must fit, with room. */
const MAX_STEPS = 16;
const MAX_BATCH_MS = 100;
/** Batches that are measured together: of two that are under way at once one may wait for the other. One before the first is not counted, since it was in flight with the last size's. */
const PAIR = 2;
/**
 * So many pairs are measured at one size, and the quickest counts: whatever else goes on, or is compiled, makes them longer, and a size that was judged by chance stays for long. A doubled
 * size that shows itself better need not be measured further.
 */
const MEASURED_PAIRS = 3;
/** A doubled size must bring a token down to this share of its time. */
const WORTHWHILE = 0.85;
/** Batches until a size that was no better is tried again: what was measured may have been other work on the machine, or a kernel's compilation. Twice as many after each time. */
const REST = 64;
const MOST_REST = 4096;

export class ReadPacer {
  readonly #maxSteps: number;
  readonly #maxBatchMs: number;
  #steps = 1;
  /** Whether the size in use is measured, or twice that, or nothing is. */
  #phase: "here" | "doubled" | "rest" = "here";
  #rest = REST;
  #skipped = false;
  #batches = 0;
  #ms = 0;
  /** Of the quickest pair. */
  #quickest = Number.POSITIVE_INFINITY;
  /** Of a token, at the size in use. */
  #before = Number.POSITIVE_INFINITY;

  constructor({ maxSteps = MAX_STEPS, maxBatchMs = MAX_BATCH_MS }: ReadPacerOptions = {}) {
    this.#maxSteps = maxSteps;
    this.#maxBatchMs = maxBatchMs;
  }

  /** Steps to submit for the next batch. */
  get steps(): number {
    return this.#steps;
  }

  /** A batch of `tokens` arrived `ms` after the one before it. */
  record(tokens: number, ms: number): void {
    if (tokens !== this.#steps) return;
    if (!this.#skipped) {
      this.#skipped = true;
      return;
    }
    this.#batches++;
    if (this.#phase === "rest") {
      if (this.#batches >= this.#rest) this.#enter("here");
      return;
    }
    this.#ms += ms;
    if (this.#batches % PAIR > 0) return;
    this.#quickest = Math.min(this.#quickest, this.#ms);
    this.#ms = 0;
    const msPerToken = this.#quickest / (PAIR * tokens);
    const isBetter = this.#phase === "doubled" && msPerToken <= this.#before * WORTHWHILE;
    if (isBetter || this.#batches >= PAIR * MEASURED_PAIRS) this.#decide(msPerToken);
  }

  #decide(msPerToken: number): void {
    if (this.#phase === "doubled" && msPerToken > this.#before * WORTHWHILE) {
      this.#steps = Math.max(1, this.#steps / 2);
      this.#rest = Math.min(MOST_REST, this.#rest * 2);
      this.#enter("rest");
      return;
    }
    if (this.#phase === "doubled") this.#rest = REST;
    const doubled = this.#steps * 2;
    if (doubled > this.#maxSteps || doubled * msPerToken > this.#maxBatchMs) {
      this.#enter("rest");
      return;
    }
    this.#before = msPerToken;
    this.#steps = doubled;
    this.#enter("doubled");
  }

  #enter(phase: "here" | "doubled" | "rest"): void {
    this.#phase = phase;
    this.#skipped = false;
    this.#batches = 0;
    this.#ms = 0;
    this.#quickest = Number.POSITIVE_INFINITY;
  }
}
