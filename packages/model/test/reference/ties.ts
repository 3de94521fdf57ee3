/**
 * DeepSeek's online activation quantization in f64, and the choices it makes that f32 could make otherwise: values so near to the middle between two FP8 codes, and
 * experts of so nearly the same score, that rounding errors decide.
 */
import { e4m3ToNumber, numberToE4m3 } from "@shoal/gpu";

/**
 * A value counts as tied if it lies within so much of the middle between two codes, as a share of its group's largest magnitude. Hidden states in f32 are off by up to
 * 1.2e-6 of the largest. On one H100 a row of the ragged model was further off than such ties explain (packages/model/README.md).
 */
export const TIE = 3e-6;
/** Two codes nearer than this share of the largest are the same for our purposes: their difference is less than that of other rounding. */
const SMALLEST_STEP = 1e-4;
/** Codes below this have neighbours nearer than SMALLEST_STEP, or not much further. */
const ALL_THE_SAME = 1;
/** Router scores. */
export const ROUTER_TIE = 1e-5;

const GROUP = 128;

/** Names a choice: where in the model, and which element. */
export type Choice = string;

export interface Tie {
  readonly choice: Choice;
  /** Distance from the middle, as a share of the group's largest magnitude. */
  readonly distance: number;
}

/** Resolves ties as `otherwise` says, and notes them and everything that was chosen. */
export class Choices {
  readonly ties: Tie[] = [];
  /** In order: decoded values of the codes (0 where the next code is all the same), groups and experts. */
  readonly chosen: number[] = [];
  /** How far each was from another choice, as the distance of a tie. */
  readonly distances: number[] = [];
  readonly #otherwise: ReadonlySet<Choice>;
  readonly #quantizes: boolean;

  constructor(quantizes: boolean, otherwise: ReadonlySet<Choice> = new Set()) {
    this.#quantizes = quantizes;
    this.#otherwise = otherwise;
  }

  /** Whether a tie goes the other way. */
  turned(choice: Choice, distance: number): boolean {
    this.ties.push({ choice, distance });
    return this.#otherwise.has(choice);
  }

  quantize(x: Float64Array, site: string): Float64Array {
    if (!this.#quantizes) return x;
    const out = new Float64Array(x.length);
    for (let start = 0; start < x.length; start += GROUP) {
      const group = x.subarray(start, start + GROUP);
      const scale = group.reduce((largest, value) => Math.max(largest, Math.abs(value)), 1e-4) / 448;
      for (const [i, value] of group.entries()) out[start + i] = this.#code(value / scale, `${site}[${start + i}]`) * scale;
    }
    return out;
  }

  #code(value: number, choice: Choice): number {
    const code = numberToE4m3(value);
    const rounded = e4m3ToNumber(code);
    const magnitude = Math.abs(value);
    // The neighbour on the other side of the value; codes ascend with the magnitude.
    const other = Math.abs(rounded) > magnitude ? code - 1 : code + 1;
    const neighbour = (code & 0x7f) === 0 && other < code ? rounded : e4m3ToNumber(other);
    if (!(Math.abs(neighbour - rounded) >= SMALLEST_STEP * 448)) {
      this.note(rounded, Number.POSITIVE_INFINITY);
      return rounded;
    }
    const distance = Math.abs(magnitude - Math.abs(neighbour + rounded) / 2) / 448;
    const chosen = distance < TIE && this.turned(choice, distance) ? neighbour : rounded;
    this.note(chosen, distance);
    return chosen;
  }

  note(chosen: number, distance: number): void {
    this.chosen.push(Math.abs(chosen) < ALL_THE_SAME ? 0 : chosen);
    this.distances.push(distance);
  }
}
