/**
 * Whether values are those of the f64 reference with some of its ties (`ties.ts`) resolved otherwise. Row by row, each computed from what the stage itself had before it,
 * so that a tie turned in one layer explains nothing in the next. Where a row leaves the reference, a tie must bring it back, alone or with another one; what was found
 * stays for the rows after it, which attend to it.
 */
import { Choices, type Choice, TIE, type Tie } from "./ties.ts";

export interface TurnedTie extends Tie {
  readonly row: number;
}

export interface Explanation {
  /** Largest error of all rows as a share of the row's largest magnitude, ties turned. */
  readonly error: number;
  readonly turned: readonly TurnedTie[];
  /** What was chosen in each row. */
  readonly choices: readonly Choices[];
}

/** Computes one row, replacing what the caches held for it. */
export type ComputeRow = (row: number, choices: Choices) => Promise<Float64Array>;

/** As a share of the row's largest magnitude: f32 is off by some 1e-6, the smallest ties (`SMALLEST_STEP`) move a row by some 2e-5, others by 1e-4 to 1e-1. */
const FITS = 5e-5;
/** Ties that are tried in pairs, nearest first. */
const PAIRED = 12;

/** @throws Error if no ties explain a row */
export async function explain(what: string, actual: readonly Float32Array[], compute: ComputeRow): Promise<Explanation> {
  const turned: TurnedTie[] = [];
  const made: Choices[] = [];
  let error = 0;
  for (const [row, wanted] of actual.entries()) {
    const attempt = async (otherwise: readonly Tie[]): Promise<Attempt> => {
      const choices = new Choices(true, new Set<Choice>(otherwise.map(({ choice }) => choice)));
      const values = await compute(row, choices);
      const ties = choices.ties.filter(({ choice }) => !otherwise.some((tie) => tie.choice === choice));
      return { otherwise, choices, error: share(values, wanted), ties: ties.toSorted((a, b) => a.distance - b.distance) };
    };
    const plain = await attempt([]);
    const found = plain.error <= FITS ? plain : await turnTies(plain, attempt);
    if (!found)
      throw new Error(
        `${what}: row ${row} is off by ${plain.error} of its largest value, and none of ${plain.ties.length} ties explains it`,
      );
    error = Math.max(error, found.error);
    made.push(found.choices);
    turned.push(...found.otherwise.map((tie) => ({ ...tie, row })));
  }
  return { error, turned, choices: made };
}

interface Attempt {
  readonly otherwise: readonly Tie[];
  readonly choices: Choices;
  readonly error: number;
  /** Those not turned, nearest first. */
  readonly ties: readonly Tie[];
}

/** The attempt that turns a tie, or two, and fits; it is the last one made, so that the caches hold its row. */
async function turnTies(plain: Attempt, attempt: (otherwise: readonly Tie[]) => Promise<Attempt>): Promise<Attempt | undefined> {
  const singles: Attempt[] = [];
  for (const tie of plain.ties) {
    const next = await attempt([tie]);
    if (next.error <= FITS) return next;
    singles.push(next);
  }
  // A turned tie moves what comes after it, and may bring another one about.
  for (const { otherwise, ties } of singles.toSorted((a, b) => a.error - b.error).slice(0, PAIRED))
    for (const tie of ties.slice(0, PAIRED)) {
      const next = await attempt([...otherwise, tie]);
      if (next.error <= FITS) return next;
    }
  return undefined;
}

/**
 * The first row in which the stage chose otherwise than the reference by itself, which a tie must have begun.
 * @param parts for each row the choices of its parts, in order
 * @throws Error if the first choice that differs was no tie
 */
export function firstParting(reference: readonly Choices[], parts: readonly (readonly (Choices | undefined)[])[]): number {
  for (const [row, { chosen, distances }] of reference.entries()) {
    const others = (parts[row] ?? []).flatMap((part) => part?.chosen ?? []);
    const index = chosen.findIndex((value, i) => value !== others[i]);
    if (index < 0) continue;
    const distance = distances[index] ?? Number.POSITIVE_INFINITY;
    if (distance > TIE) throw new Error(`Row ${row} parts from the reference in a choice that was ${distance} from the other one`);
    return row;
  }
  return Number.POSITIVE_INFINITY;
}

/** Largest difference as a share of the largest magnitude. */
function share(a: Float64Array, b: Float32Array): number {
  let error = 0;
  let largest = 0;
  for (let i = 0; i < b.length; i++) {
    const difference = Math.abs((a[i] ?? Number.NaN) - (b[i] ?? Number.NaN));
    error = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : Math.max(error, difference);
    largest = Math.max(largest, Math.abs(b[i] ?? 0));
  }
  return error / largest;
}
