/**
 * Whether to draft: with drafts a step chooses up to two tokens a stream, but costs a row more, a run of the MTP module, and a wait for the device before the next. What that
 * comes to depends on the device and on how often drafts are right, so both ways are measured in turn, and the faster one is used until the next trial. Milliseconds.
 */
export interface SpeculationOptions {
  /** Tokens chosen in a trial of either way; the first few are not counted. */
  readonly trialTokens?: number;
  /** Tokens between trials. */
  readonly heldTokens?: number;
}

/** Of a trial, while the way of working changes: kernels are compiled, readings are still on their way. */
const UNCOUNTED_TOKENS = 4;

type Phase = "try-drafting" | "try-plain" | "held";

export class SpeculationPacer {
  readonly #trialTokens: number;
  readonly #heldTokens: number;
  #phase: Phase = "try-drafting";
  #best = true;
  #streams = 0;
  #tokens = 0;
  #ms = 0;
  #counted = 0;
  #draftingMs = 0;

  constructor({ trialTokens = 24, heldTokens = 1024 }: SpeculationOptions = {}) {
    this.#trialTokens = trialTokens;
    this.#heldTokens = heldTokens;
  }

  get drafts(): boolean {
    return this.#phase === "held" ? this.#best : this.#phase === "try-drafting";
  }

  /** So many streams are to be decoded next. Another number of them is another question. */
  expect(streams: number): void {
    const doubled = streams > 2 * this.#streams || 2 * streams < this.#streams;
    if (this.#streams !== 0 && !doubled) return;
    this.#streams = streams;
    this.#begin("try-drafting");
  }

  /** `tokens` were chosen in the last `ms`, in the way that `drafts` said. */
  record(tokens: number, ms: number): void {
    this.#tokens += tokens;
    if (this.#tokens > UNCOUNTED_TOKENS * this.#streams) {
      this.#ms += ms;
      this.#counted += tokens;
    }
    if (this.#phase === "held") {
      if (this.#tokens >= this.#heldTokens * this.#streams) this.#begin("try-drafting");
      return;
    }
    if (this.#counted < this.#trialTokens * this.#streams) return;
    const msPerToken = this.#ms / this.#counted;
    if (this.#phase === "try-drafting") {
      this.#draftingMs = msPerToken;
      this.#begin("try-plain");
    } else {
      this.#best = this.#draftingMs <= msPerToken;
      this.#begin("held");
    }
  }

  #begin(phase: Phase): void {
    this.#phase = phase;
    this.#tokens = 0;
    this.#ms = 0;
    this.#counted = 0;
  }
}
