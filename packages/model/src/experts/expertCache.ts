/**
 * Which experts of a layer are on the device when not all fit. Every use counts one and fades by half every HALF_LIFE calls; the expert whose uses have faded most gives its place up. So
 * what is used often outlives what was used once, just now, which is where least-recently-used goes wrong: a token's rare experts would drive out the next token's common ones.
 *
 * After each call the experts that most often followed the ones just used are worth having next: `likely`. Pure; time is counted in calls.
 */
const HALF_LIFE = 24;

export interface CacheLoad {
  readonly expert: number;
  readonly slot: number;
}

export class ExpertCache {
  readonly #slots: (number | undefined)[];
  readonly #slotOf = new Map<number, number>();
  readonly #uses: Float64Array;
  readonly #usedAt: Float64Array;
  /** [before, after]: how often an expert was used by the call after one that used another. */
  readonly #followed: Float32Array;
  readonly #experts: number;
  readonly #halfLife: number;
  #now = 0;
  #before: readonly number[] = [];

  /** @param halfLife in calls; near 0 makes it least-recently-used */
  constructor(experts: number, slots: number, halfLife = HALF_LIFE) {
    this.#experts = experts;
    this.#halfLife = halfLife;
    this.#slots = Array.from({ length: slots });
    this.#uses = new Float64Array(experts);
    this.#usedAt = new Float64Array(experts);
    this.#followed = new Float32Array(experts * experts);
  }

  slotOf(expert: number): number | undefined {
    return this.#slotOf.get(expert);
  }

  /** A call needs these. */
  use(experts: readonly number[]): void {
    this.#now++;
    for (const before of this.#before)
      for (const expert of experts) {
        const place = before * this.#experts + expert;
        this.#followed[place] = (this.#followed[place] ?? 0) + 1;
      }
    for (const expert of experts) {
      this.#uses[expert] = this.#value(expert) + 1;
      this.#usedAt[expert] = this.#now;
    }
    this.#before = experts;
  }

  /**
   * Makes room: places for those of `experts` that have none, at the cost of others.
   * @throws RangeError for more experts than there are places
   */
  admit(experts: readonly number[]): readonly CacheLoad[] {
    if (experts.length > this.#slots.length) throw new RangeError(`Cannot hold ${experts.length} experts in ${this.#slots.length} places`);
    const wanted = new Set(experts);
    return experts.flatMap((expert) => {
      if (this.#slotOf.has(expert)) return [];
      const slot = this.#victim(wanted);
      const old = this.#slots[slot];
      if (old !== undefined) this.#slotOf.delete(old);
      this.#slots[slot] = expert;
      this.#slotOf.set(expert, slot);
      return [{ expert, slot }];
    });
  }

  /** A load failed: the place holds nothing. */
  forget(expert: number): void {
    const slot = this.#slotOf.get(expert);
    if (slot === undefined) return;
    this.#slotOf.delete(expert);
    this.#slots[slot] = undefined;
  }

  /** The expert most worth having for the next call of those that are not here, if it is likelier to be used than the one that it would drive out. */
  likely(): number | undefined {
    const scores = new Float64Array(this.#experts);
    for (const before of this.#before)
      for (let expert = 0; expert < this.#experts; expert++)
        scores[expert] = (scores[expert] ?? 0) + (this.#followed[before * this.#experts + expert] ?? 0);
    let best: number | undefined;
    for (let expert = 0; expert < this.#experts; expert++)
      if (!this.#slotOf.has(expert) && (scores[expert] ?? 0) > (best === undefined ? 0 : (scores[best] ?? 0))) best = expert;
    if (best === undefined) return undefined;
    const victim = this.#slots[this.#victim(new Set(this.#before))];
    return victim === undefined || (scores[best] ?? 0) > (scores[victim] ?? 0) ? best : undefined;
  }

  /** An empty place, or the one whose expert is worth least. */
  #victim(kept: ReadonlySet<number>): number {
    let worst = -1;
    let least = Number.POSITIVE_INFINITY;
    for (const [slot, expert] of this.#slots.entries()) {
      if (expert === undefined) return slot;
      const value = this.#value(expert);
      if (kept.has(expert) || value >= least) continue;
      worst = slot;
      least = value;
    }
    if (worst < 0) throw new RangeError("Every place is taken by an expert that is needed");
    return worst;
  }

  #value(expert: number): number {
    const age = this.#now - (this.#usedAt[expert] ?? 0);
    return (this.#uses[expert] ?? 0) * 2 ** (-age / this.#halfLife);
  }
}
