/**
 * Inputs that one user's steps wait for, by number. Numbers rise: what comes by one that was asked for already is late, or comes twice, and is dropped; what comes before it is asked for is
 * kept, within bounds. Nothing here says who sent it: that is checked where it comes in (pushLinks.ts).
 */
import type { Tensor } from "@shoal/cluster";
import { SwarmError, malformed } from "../errors.ts";
import { rowsOf } from "./messages.ts";

/** Steps that one user may have waiting, and inputs that may come before they are asked for. */
const MAX_WAITING = 64;

interface Waiting {
  readonly rows: number;
  readonly take: (hidden: Float32Array<ArrayBuffer>) => void;
  readonly refuse: (error: SwarmError) => void;
}

export class PushInbox {
  readonly #hiddenSize: number;
  readonly #maxEarlyRows: number;
  readonly #waiting = new Map<number, Waiting>();
  readonly #early = new Map<number, Tensor>();
  #earlyRows = 0;
  #asked = -1;

  constructor(hiddenSize: number, maxEarlyRows: number) {
    this.#hiddenSize = hiddenSize;
    this.#maxEarlyRows = maxEarlyRows;
  }

  /**
   * One of the two is called, once, in the turn in which the input comes: whatever arrives after it finds the step begun.
   * @throws SwarmError malformed for a number that is not above all before it, overloaded
   */
  take(number: number, waiting: Waiting): void {
    if (number <= this.#asked) throw malformed("a step", "take", number, `more than ${this.#asked}`);
    if (this.#waiting.size >= MAX_WAITING) throw new SwarmError("overloaded", `Cannot take a step: ${MAX_WAITING} wait for their inputs`);
    this.#asked = number;
    this.#waiting.set(number, waiting);
    const early = this.#early.get(number);
    for (const [known, { shape }] of this.#early)
      if (known <= number) {
        this.#early.delete(known);
        this.#earlyRows -= shape[0] ?? 0;
      }
    if (early) this.arrived(number, early);
  }

  arrived(number: number, hidden: Tensor): void {
    const waiting = this.#waiting.get(number);
    if (!waiting) {
      const rows = hidden.shape[0] ?? 0;
      const fits = this.#early.size < MAX_WAITING && this.#earlyRows + rows <= this.#maxEarlyRows;
      // Where it is not kept the step waits in vain, and its client gives the input itself.
      if (number <= this.#asked || this.#early.has(number) || !fits) return;
      this.#early.set(number, hidden);
      this.#earlyRows += rows;
      return;
    }
    this.#waiting.delete(number);
    try {
      const values = rowsOf(hidden, this.#hiddenSize);
      if (hidden.shape[0] !== waiting.rows) throw malformed("a push", "rows", hidden.shape[0], String(waiting.rows));
      if (!values.every((value) => Number.isFinite(value))) throw malformed("a push", "hidden", "not all numbers", "finite values");
      waiting.take(values);
    } catch (error) {
      waiting.refuse(
        error instanceof SwarmError ? error : new SwarmError("malformed", error instanceof Error ? error.message : String(error)),
      );
    }
  }

  isWaiting(number: number): boolean {
    return this.#waiting.has(number);
  }

  cancel(number: number): void {
    const waiting = this.#waiting.get(number);
    this.#waiting.delete(number);
    waiting?.refuse(new SwarmError("closed", "Cannot go on with a step: its client took it back"));
  }

  close(): void {
    for (const number of this.#waiting.keys()) this.cancel(number);
    this.#early.clear();
  }
}
