/**
 * How many tokens to draft a step, none included. A draft more costs a row, a run of the MTP module and, for the first, a wait for the device before the next step; what that comes to
 * depends on the device, on how many streams there are, and on how often drafts are right. So the time of a step is measured for each number of drafts, and so is how often the first,
 * second and third draft are right; what gives most tokens a millisecond is used.
 *
 * A number that is not in use is tried for a few steps, if with drafts that are right as often as they have been it could be better at all; a trial that cannot be won any more ends.
 * What a trial lost sets how long it is until the next one: trials that find nothing better cost about a hundredth of the time at most, and less each time.
 */
/** What came of a step, or of a few alike. */
export interface StepResult {
  readonly drafts: number;
  readonly steps: number;
  readonly ms: number;
  /** Of each stream whose drafts were verified: how many there were, and how many of them, from the first, were right. */
  readonly verified: readonly { readonly drafts: number; readonly right: number }[];
}

/** Steps after a change that are not counted: kernels are compiled, readings are still on their way, and the first has no drafts to verify. */
const UNCOUNTED_STEPS = 2;
/** Steps of a trial that are counted. */
const TRIAL_STEPS = 4;
/** Steps before the first trial of a number. */
const FIRST_WAIT = 16;
const LEAST_WAIT = 64;
const MOST_WAIT = 16_384;
/** A hundredth of the time for trials. */
const TRIAL_COST = 100;
/** What another number must be better by: step times are noisy, and changing costs a little. */
const WORTHWHILE = 1.05;
/** Step times that count: the last ones. */
const KEPT_TIMES = 9;
/** Of what is known of drafts, what a further one leaves. */
const MEMORY = 0.98;
/** How often a draft is taken to be right before one was verified. */
const HOPED = 0.9;

class Acceptance {
  #tried = 0;
  #right = 0;

  add(right: boolean): void {
    this.#tried = this.#tried * MEMORY + 1;
    this.#right = this.#right * MEMORY + (right ? 1 : 0);
  }

  /** The share that was right; undefined before there were a few. */
  get share(): number | undefined {
    return this.#tried < 4 ? undefined : this.#right / this.#tried;
  }
}

/** A number of drafts, for a number of streams. */
class Choice {
  readonly #times: number[] = [];
  wait = FIRST_WAIT;
  losses = 0;

  add(ms: number): void {
    this.#times.push(ms);
    if (this.#times.length > KEPT_TIMES) this.#times.shift();
  }

  forget(): void {
    this.#times.length = 0;
  }

  get counted(): number {
    return this.#times.length;
  }

  /** The median; undefined before it was measured. */
  get ms(): number | undefined {
    return this.#times.toSorted((a, b) => a - b)[Math.floor(this.#times.length / 2)];
  }
}

interface Trial {
  readonly drafts: number;
  ms: number;
  steps: number;
}

/** For about so many streams. */
interface Situation {
  readonly choices: readonly Choice[];
  used: number;
  trial: Trial | undefined;
  /** Steps yet that are not counted. */
  uncounted: number;
}

export class SpeculationPacer {
  readonly #maxDrafts: number;
  /** Of the first draft, the second, ... */
  readonly #acceptance: readonly Acceptance[];
  readonly #situations = new Map<number, Situation>();
  #situation: Situation | undefined;
  #least = 0;
  #most = 0;

  constructor(maxDrafts: number) {
    this.#maxDrafts = maxDrafts;
    this.#acceptance = Array.from({ length: maxDrafts }, () => new Acceptance());
  }

  /**
   * Tokens to draft in the next step.
   * @param least 0, or 1 if there must be drafts
   * @param most that there is room for
   */
  next(streams: number, least: number, most: number): number {
    const key = Math.round(Math.log2(streams));
    const known = this.#situations.get(key);
    const situation = known ?? {
      choices: Array.from({ length: this.#maxDrafts + 1 }, () => new Choice()),
      used: least,
      trial: undefined,
      uncounted: UNCOUNTED_STEPS,
    };
    if (!known) this.#situations.set(key, situation);
    if (situation !== this.#situation) this.#change(situation);
    this.#situation = situation;
    this.#least = least;
    this.#most = most;
    return Math.min(Math.max(situation.trial?.drafts ?? situation.used, least), most);
  }

  record({ drafts, steps, ms, verified }: StepResult): void {
    for (const { drafts: made, right } of verified)
      for (const [index, acceptance] of this.#acceptance.slice(0, Math.min(made, right + 1)).entries()) acceptance.add(index < right);
    const situation = this.#situation;
    if (!situation) return;
    const { trial, used } = situation;
    if (drafts !== (trial?.drafts ?? used)) return;
    if (trial) {
      trial.ms += ms;
      trial.steps += steps;
    }
    situation.uncounted -= steps;
    if (situation.uncounted < 0) situation.choices[drafts]?.add(ms / steps);
    if (trial) this.#judge(situation, trial);
    else this.#consider(situation, steps);
  }

  /** Tokens a stream and step with so many drafts, as far as is known. */
  #tokens(drafts: number): number {
    let [sum, all, share] = [1, 1, HOPED];
    for (const acceptance of this.#acceptance.slice(0, drafts)) {
      share = acceptance.share ?? share;
      all *= share;
      sum += all;
    }
    return sum;
  }

  /** Tokens a stream and millisecond; undefined before that is known. */
  #rate({ choices }: Situation, drafts: number): number | undefined {
    const ms = choices[drafts]?.ms;
    return ms === undefined ? undefined : this.#tokens(drafts) / ms;
  }

  #change(situation: Situation): void {
    situation.trial = undefined;
    situation.uncounted = UNCOUNTED_STEPS;
  }

  #judge(situation: Situation, trial: Trial): void {
    const { choices, used } = situation;
    const choice = choices[trial.drafts];
    const best = this.#rate(situation, used);
    const ms = choice?.ms;
    if (!choice || ms === undefined || best === undefined) return;
    const hopeless = choice.counted >= 2 && (trial.drafts + 1) / ms < best;
    if (choice.counted < TRIAL_STEPS && !hopeless) return;
    this.#change(situation);
    if (this.#tokens(trial.drafts) / ms > best * WORTHWHILE) {
      situation.used = trial.drafts;
      choice.losses = 0;
      for (const other of choices) other.wait = Math.min(other.wait, LEAST_WAIT);
      return;
    }
    // In steps of the number in use.
    const lost = Math.max(0, trial.ms * best - trial.steps * this.#tokens(trial.drafts)) / this.#tokens(used);
    choice.wait = Math.min(MOST_WAIT, Math.max(LEAST_WAIT, lost * TRIAL_COST) * 2 ** choice.losses++);
  }

  /** After steps of the number in use: whether another may be better. */
  #consider(situation: Situation, steps: number): void {
    const { choices, used } = situation;
    for (const choice of choices) choice.wait -= steps;
    const rate = this.#rate(situation, used);
    if (rate === undefined) return;
    const better = choices.findIndex((_, drafts) => this.#allowed(drafts) && (this.#rate(situation, drafts) ?? 0) > rate * WORTHWHILE);
    if (better >= 0 && better !== used) {
      situation.used = better;
      this.#change(situation);
      return;
    }
    const next = choices.findIndex(
      ({ wait }, drafts) => drafts !== used && this.#allowed(drafts) && wait <= 0 && this.#promises(situation, drafts, rate),
    );
    const choice = choices[next];
    if (!choice) return;
    choice.forget();
    this.#change(situation);
    situation.trial = { drafts: next, ms: 0, steps: 0 };
  }

  #allowed(drafts: number): boolean {
    return drafts >= this.#least && drafts <= this.#most;
  }

  /** Whether so many drafts could be better, given that their steps take at least as long as those with fewer. */
  #promises({ choices }: Situation, drafts: number, rate: number): boolean {
    const fewer = choices.slice(0, drafts).flatMap(({ ms }) => ms ?? []);
    return fewer.length === 0 || this.#tokens(drafts) / Math.max(...fewer) > rate * WORTHWHILE;
  }
}
