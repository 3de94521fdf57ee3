/**
 * Two numbers of drafts compared on a machine that others use too: they take turns, a block of steps each, so that what disturbs one meets its neighbour as well, and what counts is the
 * median of the pairs. Pure; times are the caller's.
 */

/** Steps of a block that are counted, at least: readings of several steps are counted whole. */
export const BLOCK_STEPS = 8;
/** Steps after a change that are not counted: kernels are compiled, readings are still on their way, and the first has no drafts to verify. */
export const UNCOUNTED_STEPS = 2;
const MOST_PAIRS = 7;
/** Fewer tell nothing of the number in use. */
const LEAST_PAIRS = 2;
/** So few pairs are enough, if each is clear: against more drafts, and for or against fewer. To begin with more they are not, for other work may have met plain steps by chance. */
const FEW_PAIRS = 3;
const CLEARLY = 0.1;
/** From the median deviation of normal numbers to the standard error of their median, of one. */
const MEDIAN_ERROR = 1.4826 * 1.2533;

export class Duel {
  readonly challenger: number;
  readonly used: number;
  /** In the order of a pair. Drafts come before plain steps: over what these compute the module does not run, so that right after them it knows less. */
  readonly #order: readonly [number, number];
  #turn = 0;
  #ms = 0;
  #steps = 0;
  /** Of a step, for each of the two in the pair that has begun. */
  #pair: number[] = [];
  /** Logarithms of how much longer a step of the challenger took. */
  readonly #pairs: number[] = [];
  /** What the challenger took, uncounted steps included. */
  #spent = { ms: 0, steps: 0 };

  constructor(challenger: number, used: number) {
    this.challenger = challenger;
    this.used = used;
    this.#order = challenger === 0 ? [used, challenger] : [challenger, used];
  }

  /** Whose turn it is. */
  get drafts(): number {
    return this.#order[this.#turn % 2] ?? this.used;
  }

  /** Of how many pairs both were counted. */
  get pairs(): number {
    return this.#pairs.length;
  }

  get spent(): { readonly ms: number; readonly steps: number } {
    return this.#spent;
  }

  /** Steps of the one whose turn it is, counted or not. */
  spend(ms: number, steps: number): void {
    if (this.drafts !== this.challenger) return;
    this.#spent = { ms: this.#spent.ms + ms, steps: this.#spent.steps + steps };
  }

  /** Counts steps. @returns whether the turn is now the other's */
  add(ms: number, steps: number): boolean {
    this.#ms += ms;
    this.#steps += steps;
    if (this.#steps < BLOCK_STEPS) return false;
    this.#pair.push(this.#ms / this.#steps);
    const [first = 1, second] = this.#pair;
    if (second !== undefined) {
      const longer = Math.log(second / first);
      this.#pairs.push(this.#order[1] === this.challenger ? longer : -longer);
      this.#pair = [];
    }
    this.#turn++;
    this.interrupt();
    return true;
  }

  /** Something else was computed in between: the block begins again. */
  interrupt(): void {
    this.#ms = 0;
    this.#steps = 0;
  }

  /**
   * Whether the challenger is better by the factor `bar`; undefined while more pairs are needed. More drafts go on only while the median says that they are, from the first pair on, or from the
   * third against none, which the first draft may bring most over: each pair costs the same again, and what other work has met is tried again later. Where even the last pair leaves it within
   * the noise, more are not begun with; whether fewer are is decided by the median.
   * @param gain tokens of a step of the challenger, for one of a step in use
   */
  verdict(gain: number, bar: number): "better" | "worse" | undefined {
    const count = this.#pairs.length;
    const fewer = this.challenger < this.used;
    const patience = fewer ? MOST_PAIRS : this.used === 0 ? FEW_PAIRS : 1;
    if (count < Math.min(LEAST_PAIRS, patience)) return undefined;
    const above = this.#pairs.map((longer) => Math.log(gain) - longer - Math.log(bar));
    const middle = median(above);
    const noise = count <= FEW_PAIRS ? CLEARLY : (MEDIAN_ERROR * median(above.map((one) => Math.abs(one - middle)))) / Math.sqrt(count);
    const [least, most] = count <= FEW_PAIRS ? [Math.min(...above), Math.max(...above)] : [middle, middle];
    if (most < -noise || (middle <= 0 && count >= patience)) return "worse";
    if (least > noise && (fewer || count > FEW_PAIRS)) return "better";
    if (count < MOST_PAIRS) return undefined;
    return fewer ? "better" : "worse";
  }
}

/** Zero for none. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  return ((sorted[Math.floor(middle)] ?? 0) + (sorted[Math.ceil(middle)] ?? 0)) / 2;
}
