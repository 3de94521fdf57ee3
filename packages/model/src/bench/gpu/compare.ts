/**
 * Whether two ways of computing the same rows agree: few tokens at a time, and many. Weights are random, so a rounding error now and then decides between two
 * experts and moves that row by percents: what is held is the middle row to rounding, most rows closely, and every row to being the same row at all.
 */
import { BenchError } from "../errors.ts";
import type { Arithmetic } from "./rows.ts";

/** Relative errors that are allowed of the middle row, of nine in ten, and of all. Wrong rows have 1 and more. */
interface RowTolerance {
  readonly middle: number;
  readonly most: number;
  readonly all: number;
}

/** Subgroup matrices round their inputs to f16: 5e-4 a product, which deep models add up, and which more often decides between experts. */
const TOLERANCE: Readonly<Record<Arithmetic, RowTolerance>> = {
  plain: { middle: 2e-3, most: 0.05, all: 0.5 },
  "subgroup matrices": { middle: 0.05, most: 0.2, all: 0.7 },
};

export interface Agreement {
  readonly rows: number;
  readonly middle: number;
  readonly worst: number;
}

/**
 * Rows of `columns` values.
 * @param what of the rows, for messages
 * @throws BenchError named wrong-answer if rows are not finite, constant or alike, or differ by more than the arithmetic allows
 */
export function checkRows(what: string, actual: Float32Array, expected: Float32Array, columns: number, arithmetic: Arithmetic): Agreement {
  const rows = expected.length / columns;
  if (actual.length !== expected.length || rows === 0)
    throw new BenchError("wrong-answer", `Cannot measure: there are ${actual.length} values of ${what}, expected ${expected.length}`);
  const errors: number[] = [];
  for (let row = 0; row < rows; row++) {
    const one = actual.subarray(row * columns, (row + 1) * columns);
    const other = expected.subarray(row * columns, (row + 1) * columns);
    checkRow(`${what}, row ${row}`, one);
    checkRow(`${what} by the other way, row ${row}`, other);
    errors.push(distance(one, other) / Math.max(norm(other), Number.MIN_VALUE));
  }
  if (rows > 1 && distance(expected.subarray(0, columns), expected.subarray((rows - 1) * columns)) === 0)
    throw new BenchError("wrong-answer", `Cannot measure: the first and the last row of ${what} are the same, expected different ones`);
  const sorted = errors.toSorted((a, b) => a - b);
  const at = (share: number): number => sorted[Math.min(rows - 1, Math.ceil(share * rows) - 1)] ?? Number.NaN;
  const tolerance = TOLERANCE[arithmetic];
  for (const [name, value] of [
    ["middle", at(0.5)],
    ["most", at(0.9)],
    ["all", at(1)],
  ] as const)
    if (!(value <= tolerance[name]))
      throw new BenchError(
        "wrong-answer",
        `Cannot measure: ${what} of few tokens and of many differ by ${value.toPrecision(3)} of their size (${name} of ${rows} rows), expected at most ${tolerance[name]}`,
      );
  return { rows, middle: at(0.5), worst: at(1) };
}

export function agreementText(what: string, { rows, middle, worst }: Agreement): string {
  return `${rows} ${rows === 1 ? "row" : "rows"} of ${what}, few tokens against many: ${middle.toExponential(1)} apart, ${worst.toExponential(1)} at most`;
}

function checkRow(what: string, row: Float32Array): void {
  let [least, most] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const [index, value] of row.entries()) {
    if (!Number.isFinite(value))
      throw new BenchError("wrong-answer", `Cannot measure: element ${index} of ${what} is ${value}, expected a finite number`);
    [least, most] = [Math.min(least, value), Math.max(most, value)];
  }
  if (least === most) throw new BenchError("wrong-answer", `Cannot measure: all of ${what} is ${least}, expected different values`);
}

function distance(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += ((a[i] ?? 0) - (b[i] ?? 0)) ** 2;
  return Math.sqrt(sum);
}

function norm(a: Float32Array): number {
  return Math.sqrt(a.reduce((sum, value) => sum + value * value, 0));
}
