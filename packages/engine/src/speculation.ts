/**
 * How many tokens to draft a step, none included. A draft more costs a row and a run of the MTP module; what that comes to depends on the device, on how many streams there are, and on
 * how often drafts are right. So the time of a step is measured for each number of drafts, and so is how often the first, second and third draft are right; what gives most tokens a
 * millisecond is used.
 *
 * Others on the machine disturb, so a number that is not in use is tried in a duel with the one that is (duel.ts). Drafts must win: by 10 % beyond the noise against none, or by 5 %
 * against fewer; and they go on while they are 4 % faster than none. What lies within the noise is no reason to begin with more.
 *
 * What is guaranteed, of steps' times: a duel computes no more than 7 blocks of its challenger's steps, each of 10 or of two readings. It ends with the first where the challenger could not win
 * even with all its drafts right, and against drafts with the first after which a further one is not ahead, so that two or three of them cost next to nothing where they do not pay; of plain steps
 * it takes two pairs if both are clear, or three if they are hopeless. The next one of that number begins when a hundred times as much time has gone by as it lost, twice as much after each further
 * loss. So from the first duel of each number on, trials cost a hundredth of the time at most; and apart from trials drafts are used only while they were 4 % faster than none when last compared.
 * The module's run over prompts counts too, by what the steps after them take longer and how many tokens come between prompts. The wait at an answer's end for which drafts were right does
 * not: the 4 to 10 % are for it.
 *
 * Where steps need not wait for one another it begins with one draft, for one or two streams, and compares that with none after a few steps, for that may be faster; more drafts are tried when there were some hundred. Elsewhere it begins with none, and does not rule
 * an answer's first tokens, for which the engine makes no drafts of its own accord.
 */
import { Acceptance, Choice } from "./draftFigures.ts";
import { Duel, UNCOUNTED_STEPS } from "./duel.ts";

/** What came of a step, or of a few alike. */
export interface StepResult {
  readonly drafts: number;
  readonly steps: number;
  readonly ms: number;
  /** They are the first after a prompt: in their time lies the module's run over that; false by default. */
  readonly afterPrompt?: boolean;
  /** Of each stream whose drafts were verified: how many there were, and how many of them, from the first, were right. */
  readonly verified: readonly { readonly drafts: number; readonly right: number }[];
}

/** What a next step may have. */
export interface DraftRoom {
  /** 0, or more if there must be drafts. */
  readonly least: number;
  /** That there is room for. */
  readonly most: number;
}

/** Steps before the first duel of a number, for each stream: rows of many streams share the weights already, and drafts for them pay less often. */
const FIRST_WAIT = 16;
/**
 * Steps before the first duel of more drafts than one, and between theirs, at least: one that is lost with its first pair costs the time of a step or two, and two or three drafts may bring less
 * than the first does.
 */
const FURTHER_WAIT = 128;
/** Streams for which it begins with drafts. */
const MOST_BEGINNING = 2;
/** Before plain steps are said to be hopeless. */
const PLAIN_PAIRS = 3;
const LEAST_WAIT = 64;
const MOST_WAIT = 16_384;
/** A hundredth of the time for trials. */
const TRIAL_COST = 100;
/** What more drafts must be better by than some, and fewer may be worse by: changing costs a little. */
const MORE = 1.05;
const FEWER = 0.98;
/** What drafts must be better by than none, to begin and to go on: what they cost beside steps is not in the steps' times. */
const WORTHWHILE = 1.1;
const STILL_WORTHWHILE = 1.04;
/** A further draft costs at least this share of what the first does. */
const FURTHER_COST = 0.5;
/** How much the last answer counts for how long they are. */
const PROMPT_SHARE = 0.3;
const STALE_STEPS = 1024;
/** How often a draft is taken to be right before a few were verified. */
const HOPED = 0.9;

/** For about so many streams. */
interface Situation {
  readonly choices: readonly Choice[];
  used: number;
  duel: Duel | undefined;
  /** Steps yet that are not counted. */
  uncounted: number;
  /** Steps since the last duel. */
  sinceDuel: number;
  /** Of a stream, since the last prompt and between prompts; the latter undefined before there were two. */
  tokens: number;
  promptTokens: number | undefined;
}

export class SpeculationPacer {
  readonly #maxDrafts: number;
  readonly #begins: number;
  /** Of the first draft, the second, ... */
  readonly #acceptance: readonly Acceptance[];
  readonly #situations = new Map<number, Situation>();
  #situation: Situation | undefined;
  #room: DraftRoom = { least: 0, most: 0 };

  /** @param begins drafts a step before anything is known, for few streams */
  constructor(maxDrafts: number, begins = 0) {
    this.#maxDrafts = maxDrafts;
    this.#begins = begins;
    this.#acceptance = Array.from({ length: maxDrafts }, () => new Acceptance());
  }

  /** Tokens to draft in the next step. */
  next(streams: number, room: DraftRoom): number {
    const key = Math.round(Math.log2(streams));
    const situation = this.#situations.get(key) ?? this.#newSituation(streams, room);
    this.#situations.set(key, situation);
    if (situation !== this.#situation) {
      situation.uncounted = UNCOUNTED_STEPS;
      situation.duel?.interrupt();
    }
    this.#situation = situation;
    this.#room = room;
    const { duel, used } = situation;
    // A number that there is no room for now is not compared now.
    if (duel && !(this.#allowed(duel.challenger) && this.#allowed(used))) this.#end(situation);
    return Math.min(Math.max(inUse(situation), room.least), room.most);
  }

  #newSituation(streams: number, { least, most }: DraftRoom): Situation {
    const choices = Array.from(
      { length: this.#maxDrafts + 1 },
      (_, drafts) => new Choice(Math.max(FIRST_WAIT * streams, firstWait(drafts))),
    );
    const begins = streams > MOST_BEGINNING ? 0 : Math.min(this.#begins, most);
    const used = Math.max(begins, least);
    return { choices, used, duel: undefined, uncounted: UNCOUNTED_STEPS, sinceDuel: 0, tokens: 0, promptTokens: undefined };
  }

  /** Until `next`, what is recorded says nothing of how long steps take: what is used then is not this pacer's choice. */
  rest(): void {
    this.#situation = undefined;
  }

  record({ drafts, steps, ms, verified, afterPrompt = false }: StepResult): void {
    for (const { drafts: made, right } of verified)
      for (const [index, acceptance] of this.#acceptance.slice(0, Math.min(made, right + 1)).entries()) acceptance.add(index < right);
    const situation = this.#situation;
    if (!situation) return;
    if (afterPrompt) {
      situation.choices[drafts]?.addAfterPrompt(ms, steps);
      const { tokens, promptTokens = tokens } = situation;
      if (tokens > 0) situation.promptTokens = promptTokens + (tokens - promptTokens) * PROMPT_SHARE;
      situation.tokens = 0;
    }
    situation.tokens += steps * this.#tokens(drafts);
    if (drafts !== inUse(situation)) return;
    const { duel } = situation;
    duel?.spend(ms, steps);
    if (afterPrompt) return;
    if (situation.uncounted > 0) {
      situation.uncounted -= steps;
      return;
    }
    situation.choices[drafts]?.add(ms, steps);
    if (!duel) this.#consider(situation, steps);
    else if (duel.add(ms, steps)) {
      situation.uncounted = UNCOUNTED_STEPS;
      this.#judge(situation, duel);
    }
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

  /** Likewise, less what would have been computed in the time that prompts take beside. */
  #worth({ choices, promptTokens }: Situation, drafts: number): number {
    const [tokens, { ms, promptMs = 0 } = {}] = [this.#tokens(drafts), choices[drafts]];
    return ms === undefined || promptTokens === undefined ? tokens : tokens / (1 + (promptMs * tokens) / (ms * promptTokens));
  }

  /** Tokens a stream and millisecond; undefined before that is known. */
  #rate(situation: Situation, drafts: number): number | undefined {
    const ms = situation.choices[drafts]?.ms;
    return ms === undefined ? undefined : this.#worth(situation, drafts) / ms;
  }

  #judge(situation: Situation, duel: Duel): void {
    const { challenger, used } = duel;
    const [ms, rate] = [situation.choices[challenger]?.ms, this.#rate(situation, used)];
    // Other work may have met a block of plain steps, for which drafts should be left.
    const told = challenger > 0 || duel.pairs >= PLAIN_PAIRS;
    const hopeless = told && ms !== undefined && rate !== undefined && (challenger + 1) / ms < rate;
    const bar = challenger > used ? barFor(used) : challenger === 0 ? 1 / STILL_WORTHWHILE : FEWER;
    const verdict = hopeless ? "worse" : duel.verdict(this.#worth(situation, challenger) / this.#worth(situation, used), bar);
    if (!verdict) return;
    this.#end(situation);
    const [winner, loser] = verdict === "better" ? [challenger, used] : [used, challenger];
    const choice = situation.choices[loser];
    if (!choice) return;
    situation.used = winner;
    // In steps of the number in use.
    const lost = Math.max(0, duel.spent.ms * (rate ?? 0) - duel.spent.steps * this.#tokens(challenger)) / this.#tokens(used);
    choice.wait = Math.min(MOST_WAIT, Math.max(LEAST_WAIT, verdict === "worse" ? lost * TRIAL_COST : 0) * 2 ** choice.losses++);
    for (const [drafts, other] of situation.choices.entries()) {
      // Who lost to none tells of the others; one of several drafts is not tried right after another.
      if (winner === 0) other.wait = Math.max(other.wait, choice.wait);
      else if (drafts > 1 && loser > 1) other.wait = Math.max(other.wait, FURTHER_WAIT);
    }
    if (verdict === "worse") return;
    const won = situation.choices[winner];
    if (won) won.losses = 0;
    // Beside another number those on its side look different.
    for (const [drafts, other] of situation.choices.entries())
      if (winner > 0 && (winner > loser ? drafts > loser : drafts < loser)) other.wait = Math.min(other.wait, firstWait(drafts));
  }

  #end(situation: Situation): void {
    situation.duel = undefined;
    situation.uncounted = UNCOUNTED_STEPS;
    situation.sinceDuel = 0;
  }

  /** After steps of the number in use: whether another may be better. */
  #consider(situation: Situation, steps: number): void {
    const { choices, used } = situation;
    for (const choice of choices) choice.wait -= steps;
    situation.sinceDuel += steps;
    const rate = this.#rate(situation, used);
    if (rate === undefined) return;
    const rivals = choices.flatMap(({ wait }, drafts) => {
      if (drafts === used || !this.#allowed(drafts)) return [];
      // What one costs tells what more do.
      if (used === 0 && drafts > 1 && choices[1]?.ms === undefined) return [];
      const hoped = this.#hopedRate(situation, drafts);
      const due = wait <= 0 && (drafts < used || hoped > rate * barFor(used));
      // Drafts have become wrong, or dear.
      const suspected = drafts < used && situation.sinceDuel >= LEAST_WAIT && (this.#rate(situation, drafts) ?? 0) > rate;
      return due || suspected ? [{ drafts, hoped }] : [];
    });
    const [first] = rivals.toSorted((a, b) => b.hoped - a.hoped);
    if (!first) return;
    if (stale(situation)) for (const acceptance of this.#acceptance) acceptance.fade();
    situation.duel = new Duel(first.drafts, used);
    situation.uncounted = UNCOUNTED_STEPS;
  }

  #allowed(drafts: number): boolean {
    return drafts >= this.#room.least && drafts <= this.#room.most;
  }

  /** What so many drafts give at best, as far as is known: their steps take longer than those with fewer. */
  #hopedRate(situation: Situation, drafts: number): number {
    const { choices } = situation;
    const fewer = choices.slice(0, drafts).flatMap(({ ms }) => ms ?? []);
    const [plain, one] = [choices[0]?.ms, choices[1]?.ms];
    const further =
      plain !== undefined && one !== undefined && drafts > 1 ? one + Math.max(0, one - plain) * FURTHER_COST * (drafts - 1) : 0;
    const ms = drafts < situation.used ? (choices[drafts]?.ms ?? 0) : Math.max(further, ...fewer);
    const tokens = stale(situation) ? hopedTokens(drafts) : this.#tokens(drafts);
    return ms > 0 ? tokens / ms : Number.POSITIVE_INFINITY;
  }
}

/** Whether what is known of drafts is of long ago: plain steps tell nothing of them. */
function stale({ used, sinceDuel }: Situation): boolean {
  return used === 0 && sinceDuel >= STALE_STEPS;
}

/** What more drafts than `used` must be better by. */
function barFor(used: number): number {
  return used === 0 ? WORTHWHILE : MORE;
}

/** Steps before the first duel of a number in a situation of one stream. */
function firstWait(drafts: number): number {
  return drafts > 1 ? FURTHER_WAIT : FIRST_WAIT;
}

function hopedTokens(drafts: number): number {
  return (1 - HOPED ** (drafts + 1)) / (1 - HOPED);
}

/** The number of drafts of the next step. */
function inUse({ duel, used }: Situation): number {
  return duel?.drafts ?? used;
}

/** As the engine's status has them. */
export function countDrafts(verified: StepResult["verified"]): { readonly draftTokens: number; readonly acceptedDraftTokens: number } {
  return {
    draftTokens: verified.reduce((sum, { drafts }) => sum + drafts, 0),
    acceptedDraftTokens: verified.reduce((sum, { right }) => sum + right, 0),
  };
}
