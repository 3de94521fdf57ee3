/**
 * How many tokens to draft a step, none included. A draft more costs a row, a run of the MTP module and, for the first, a wait for the device before the next step; what that comes to
 * depends on the device, on how many streams there are, and on how often drafts are right. So the time of a step is measured for each number of drafts, and so is how often the first,
 * second and third draft are right; what gives most tokens a millisecond is used.
 *
 * A number that is not in use is tried for a few steps, if with drafts that are right as often as they have been it could be better at all; a trial that cannot be won any more ends.
 * Other work on the machine disturbs, so it must be better than the number in use was before and is again after it. What a trial lost sets how long it is until the next one: trials
 * that find nothing better cost about a hundredth of the time at most, and less each time.
 *
 * Where steps need not wait for one another it begins with a draft a step: that is seldom slower, and the module has then seen every prompt, without which its drafts are poor.
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
const TRIAL_STEPS = 6;
/** Of these, after so many a trial may be given up. */
const HOPELESS_STEPS = 2;
/** Steps before the first trial of a number. */
const FIRST_WAIT = 16;
const LEAST_WAIT = 64;
const MOST_WAIT = 16_384;
/** A hundredth of the time for trials. */
const TRIAL_COST = 100;
/** What another number must be better by: step times are noisy, and changing costs a little. */
const WORTHWHILE = 1.05;
/** Steps whose times count: the last ones. */
const KEPT_STEPS = 16;
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
  readonly #times: { readonly ms: number; readonly steps: number }[] = [];
  #ms = 0;
  #steps = 0;
  wait = FIRST_WAIT;
  losses = 0;

  add(ms: number, steps: number): void {
    this.#times.push({ ms, steps });
    this.#ms += ms;
    this.#steps += steps;
    for (;;) {
      const [oldest] = this.#times;
      if (!oldest || this.#steps - oldest.steps < KEPT_STEPS) return;
      this.#times.shift();
      this.#ms -= oldest.ms;
      this.#steps -= oldest.steps;
    }
  }

  forget(): void {
    this.#times.length = 0;
    this.#ms = 0;
    this.#steps = 0;
  }

  get counted(): number {
    return this.#steps;
  }

  /** Of a step. The mean, not the median: plain steps are measured several at once, and then a median would overlook what disturbs drafting ones alone. */
  get ms(): number | undefined {
    return this.#steps > 0 ? this.#ms / this.#steps : undefined;
  }
}

interface Trial {
  readonly drafts: number;
  /** Of the number in use, before. */
  readonly rate: number;
  ms: number;
  steps: number;
  /** It was better; the number in use is measured once more. */
  won: boolean;
}

/** For about so many streams. */
interface Situation {
  readonly choices: readonly Choice[];
  used: number;
  trial: Trial | undefined;
  /** Steps yet that are not counted. */
  uncounted: number;
}

/** The number of drafts of the next step. */
function inUse({ trial, used }: Situation): number {
  return trial && !trial.won ? trial.drafts : used;
}

export class SpeculationPacer {
  readonly #maxDrafts: number;
  readonly #begins: number;
  /** Of the first draft, the second, ... */
  readonly #acceptance: readonly Acceptance[];
  readonly #situations = new Map<number, Situation>();
  #situation: Situation | undefined;
  #least = 0;
  #most = 0;

  /** @param begins drafts a step before anything is known */
  constructor(maxDrafts: number, begins = 0) {
    this.#maxDrafts = maxDrafts;
    this.#begins = begins;
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
      used: Math.max(least, this.#begins),
      trial: undefined,
      uncounted: UNCOUNTED_STEPS,
    };
    if (!known) this.#situations.set(key, situation);
    if (situation !== this.#situation) this.#change(situation);
    this.#situation = situation;
    this.#least = least;
    this.#most = most;
    return Math.min(Math.max(inUse(situation), least), most);
  }

  record({ drafts, steps, ms, verified }: StepResult): void {
    for (const { drafts: made, right } of verified)
      for (const [index, acceptance] of this.#acceptance.slice(0, Math.min(made, right + 1)).entries()) acceptance.add(index < right);
    const situation = this.#situation;
    if (!situation) return;
    const { trial } = situation;
    if (drafts !== inUse(situation)) return;
    if (trial && !trial.won) {
      trial.ms += ms;
      trial.steps += steps;
    }
    situation.uncounted -= steps;
    if (situation.uncounted < 0) situation.choices[drafts]?.add(ms, steps);
    if (!trial) this.#consider(situation, steps);
    else if (trial.won) this.#confirm(situation, trial);
    else this.#judge(situation, trial);
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
    const choice = situation.choices[trial.drafts];
    const ms = choice?.ms;
    if (!choice || ms === undefined) return;
    const hopeless = choice.counted >= HOPELESS_STEPS && (trial.drafts + 1) / ms < trial.rate;
    if (choice.counted < TRIAL_STEPS && !hopeless) return;
    if (this.#tokens(trial.drafts) / ms > trial.rate * WORTHWHILE) {
      trial.won = true;
      situation.choices[situation.used]?.forget();
      situation.uncounted = UNCOUNTED_STEPS;
    } else this.#lose(situation, trial, choice);
  }

  #confirm(situation: Situation, trial: Trial): void {
    const { choices, used } = situation;
    const [before, choice] = [choices[used], choices[trial.drafts]];
    const [rate, after] = [this.#rate(situation, trial.drafts), this.#rate(situation, used)];
    if (!before || !choice || rate === undefined || after === undefined || before.counted < TRIAL_STEPS) return;
    if (rate <= after * WORTHWHILE) {
      this.#lose(situation, trial, choice);
      return;
    }
    this.#change(situation);
    situation.used = trial.drafts;
    choice.losses = 0;
    for (const other of choices) other.wait = Math.min(other.wait, FIRST_WAIT);
  }

  #lose(situation: Situation, { rate, ms, steps, drafts }: Trial, choice: Choice): void {
    this.#change(situation);
    // In steps of the number in use.
    const lost = Math.max(0, ms * rate - steps * this.#tokens(drafts)) / this.#tokens(situation.used);
    choice.wait = Math.min(MOST_WAIT, Math.max(LEAST_WAIT, lost * TRIAL_COST) * 2 ** choice.losses++);
  }

  /** After steps of the number in use: whether another may be better. */
  #consider(situation: Situation, steps: number): void {
    const { choices, used } = situation;
    for (const choice of choices) choice.wait -= steps;
    const rate = this.#rate(situation, used);
    if (rate === undefined) return;
    // Fewer, where drafts have become wrong: what is known of more is too old to go by.
    const better = choices.findIndex(
      (_, drafts) => drafts < used && this.#allowed(drafts) && (this.#rate(situation, drafts) ?? 0) > rate * WORTHWHILE,
    );
    if (better >= 0) {
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
    situation.trial = { drafts: next, rate, ms: 0, steps: 0, won: false };
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

/** As the engine's status has them. */
export function countDrafts(verified: StepResult["verified"]): { readonly draftTokens: number; readonly acceptedDraftTokens: number } {
  return {
    draftTokens: verified.reduce((sum, { drafts }) => sum + drafts, 0),
    acceptedDraftTokens: verified.reduce((sum, { right }) => sum + right, 0),
  };
}
