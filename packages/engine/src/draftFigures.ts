/** What was measured of drafts: how often they are right, and how long steps with so many of them take. Pure. */
import { BLOCK_STEPS, median } from "./duel.ts";

/** Blocks of a number, and first steps after prompts, whose times are kept. */
const KEPT_BLOCKS = 5;
/** Of what is known of drafts, what a further one leaves. */
const MEMORY = 0.98;
/** Of what is known of drafts, what plain steps leave. */
const FADED = 0.1;
/** Drafts that must have been verified before the share of right ones tells anything. */
const FEW_TRIED = 4;

/** Of the first draft, or the second, ... of a step. */
export class Acceptance {
  #tried = 0;
  #right = 0;

  add(right: boolean): void {
    this.#tried = this.#tried * MEMORY + 1;
    this.#right = this.#right * MEMORY + (right ? 1 : 0);
  }

  /** What is known becomes a guess: it was long ago, and may have been other text. */
  fade(): void {
    this.#tried *= FADED;
    this.#right *= FADED;
  }

  /** The share that was right; undefined before there were a few. */
  get share(): number | undefined {
    return this.#tried < FEW_TRIED ? undefined : this.#right / this.#tried;
  }
}

/** A number of drafts, for a number of streams. Times are in milliseconds. */
export class Choice {
  /** Of a step, in each of the last blocks. */
  readonly #blocks: number[] = [];
  readonly #afterPrompts: { readonly ms: number; readonly steps: number }[] = [];
  #ms = 0;
  #steps = 0;
  /** Steps yet before it is tried. */
  wait: number;
  losses = 0;

  constructor(wait: number) {
    this.wait = wait;
  }

  add(ms: number, steps: number): void {
    this.#ms += ms;
    this.#steps += steps;
    if (this.#steps < BLOCK_STEPS) return;
    this.#blocks.push(this.#ms / this.#steps);
    if (this.#blocks.length > KEPT_BLOCKS) this.#blocks.shift();
    this.#ms = 0;
    this.#steps = 0;
  }

  addAfterPrompt(ms: number, steps: number): void {
    this.#afterPrompts.push({ ms, steps });
    if (this.#afterPrompts.length > KEPT_BLOCKS) this.#afterPrompts.shift();
  }

  /** By which a prompt makes the steps after it longer. */
  get promptMs(): number {
    const { ms: usual } = this;
    return usual === undefined ? 0 : Math.max(0, median(this.#afterPrompts.map(({ ms, steps }) => ms - steps * usual)));
  }

  /** Of a step; undefined before there was a block of them. */
  get ms(): number | undefined {
    return this.#blocks.length > 0 ? median(this.#blocks) : undefined;
  }
}
