/**
 * For how long nothing has been heard, and when that is more than usual. What is usual a link shows by itself: on a busy machine signs of life come late, and a bound that is quick
 * on an idle one would call everybody dead there. (The idea of accrual failure detectors, without their distribution.)
 */
/** At least: five heartbeats. */
const LEAST_MS = 1250;
/** Whatever the link has shown. */
const MOST_MS = 6000;
/** Of the longest silence of late after which something came. */
const FACTOR = 2.5;
/** In which a silence of the past counts half. */
const HALF_LIFE_MS = 30_000;

export class Silence {
  #heardAt: number;
  #longest = 0;

  constructor(now: number) {
    this.#heardAt = now;
  }

  heard(now: number): void {
    const silent = Math.max(0, now - this.#heardAt);
    this.#longest = Math.max(silent, this.#longest * 0.5 ** (silent / HALF_LIFE_MS));
    this.#heardAt = now;
  }

  /** This thread itself stood still: what came meanwhile has not been read yet. */
  excuse(ms: number): void {
    this.#heardAt += ms;
  }

  /** 0 unless it is more than usual. */
  unusualMs(now: number): number {
    const silent = now - this.#heardAt;
    return silent > Math.min(MOST_MS, Math.max(LEAST_MS, FACTOR * this.#longest)) ? silent : 0;
  }
}
