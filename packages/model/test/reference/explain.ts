/**
 * Whether hidden states and logits are those of the f64 reference with some of its ties (`ties.ts`) resolved otherwise. Row by row and layer by layer: where a row leaves
 * the reference, a tie of that layer must bring it back, alone or with another one. What was found stays for the rows after it, which attend to it.
 */
import { Choices, type Choice, type Tie } from "./ties.ts";

/** What a row computes, in order: hidden states after each layer, logits. */
export interface Computed {
  readonly values: Float64Array;
  /** Ties noted so far. */
  readonly ties: number;
}

export interface Explained {
  readonly row: number;
  readonly tie: Tie;
}

export interface Explanation {
  /** Largest error of each row's logits, ties turned. */
  readonly errors: readonly number[];
  readonly turned: readonly Explained[];
  /** Where no tie explains what was computed; nothing after it is looked at. */
  readonly lost?: { readonly row: number; readonly stage: number; readonly error: number };
}

/** Computes one row, replacing what the caches held for it. */
export type ComputeRow = (row: number, choices: Choices) => Promise<readonly Computed[]>;

/** As a share of the row's largest magnitude: ten times what f32 is off by, a fifth of what the smallest tie that matters moves. */
const FITS = 2e-5;
/** Ties of a layer that are tried in pairs, nearest first. */
const PAIRED = 12;

/** @param actual for each row the values that `compute` gives */
export async function explain(actual: readonly (readonly Float32Array[])[], compute: ComputeRow): Promise<Explanation> {
  const errors: number[] = [];
  const turned: Explained[] = [];
  for (const [row, wanted] of actual.entries()) {
    const attempt = (otherwise: readonly Tie[]): Promise<Attempt> => attemptRow(row, wanted, otherwise, compute);
    let best = await attempt([]);
    while (best.stage < wanted.length) {
      const better = await turnTies(best, attempt);
      if (!better) return { errors, turned, lost: { row, stage: best.stage, error: best.error } };
      best = better;
    }
    errors.push(best.error);
    turned.push(...best.otherwise.map((tie) => ({ row, tie })));
  }
  return { errors, turned };
}

interface Attempt {
  readonly otherwise: readonly Tie[];
  /** The first of the values that do not fit, or their number. */
  readonly stage: number;
  /** Ties of that stage, nearest first. */
  readonly ties: readonly Tie[];
  /** Largest absolute error there; of the logits if all fits. */
  readonly error: number;
}

async function attemptRow(row: number, wanted: readonly Float32Array[], otherwise: readonly Tie[], compute: ComputeRow): Promise<Attempt> {
  const choices = new Choices(true, new Set<Choice>(otherwise.map(({ choice }) => choice)));
  const computed = await compute(row, choices);
  let begin = 0;
  let error = 0;
  for (const [stage, { values, ties: end }] of computed.entries()) {
    const against = wanted[stage];
    if (!against) throw new RangeError(`Nothing to compare stage ${stage} with`);
    const compared = compare(values, against);
    ({ error } = compared);
    if (!(compared.share <= FITS)) {
      const ties = choices.ties.slice(begin, end).filter(({ choice }) => !otherwise.some((turned) => turned.choice === choice));
      return { otherwise, stage, ties: ties.toSorted((a, b) => a.distance - b.distance), error };
    }
    begin = end;
  }
  return { otherwise, stage: wanted.length, ties: [], error };
}

/** The attempt that turns one more tie, or two, and gets past the stage; the last attempt made is the one given. */
async function turnTies(from: Attempt, attempt: (otherwise: readonly Tie[]) => Promise<Attempt>): Promise<Attempt | undefined> {
  for (const tie of from.ties) {
    const next = await attempt([...from.otherwise, tie]);
    if (next.stage > from.stage) return next;
  }
  const nearest = from.ties.slice(0, PAIRED);
  for (const [index, second] of nearest.entries())
    for (const first of nearest.slice(0, index)) {
      const next = await attempt([...from.otherwise, first, second]);
      if (next.stage > from.stage) return next;
    }
  return undefined;
}

function compare(a: Float64Array, b: Float32Array): { readonly error: number; readonly share: number } {
  let error = 0;
  let largest = 0;
  for (let i = 0; i < b.length; i++) {
    const difference = Math.abs((a[i] ?? Number.NaN) - (b[i] ?? Number.NaN));
    error = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : Math.max(error, difference);
    largest = Math.max(largest, Math.abs(b[i] ?? 0));
  }
  return { error, share: error / largest };
}
