/** How far two matrices are from each other, row by row, and assertions that name the worst row. */

export function check(holds: boolean, message: string): asserts holds {
  if (!holds) throw new Error(message);
}

/** Largest absolute difference of each row. NaN counts as infinitely far. */
export function rowErrors(actual: Float32Array, expected: Float32Array, columns: number): readonly number[] {
  check(actual.length === expected.length, `${actual.length} values, expected ${expected.length}`);
  return Array.from({ length: expected.length / columns }, (_, row) => {
    let worst = 0;
    for (let i = row * columns; i < (row + 1) * columns; i++) {
      const error = Math.abs((actual[i] ?? Number.NaN) - (expected[i] ?? Number.NaN));
      worst = Number.isNaN(error) ? Number.POSITIVE_INFINITY : Math.max(worst, error);
    }
    return worst;
  });
}

export function maxError(actual: Float32Array, expected: Float32Array): number {
  return Math.max(...rowErrors(actual, expected, expected.length));
}

export function largestMagnitude(values: Float32Array): number {
  let largest = 0;
  for (const value of values) largest = Math.max(largest, Math.abs(value));
  return largest;
}

/** The likeliest token of each row; of equals the first. */
export function argmaxRows(values: Float32Array, columns: number): readonly number[] {
  return Array.from({ length: values.length / columns }, (_, row) => {
    let best = 0;
    for (let column = 1; column < columns; column++)
      if ((values[row * columns + column] ?? 0) > (values[row * columns + best] ?? 0)) best = column;
    return best;
  });
}

/** Asserts that no row but those excused by `skip` is further off than `tolerance`; gives the largest error of the rows compared. */
export function checkRows(
  what: string,
  errors: readonly number[],
  tolerance: number,
  skip: (row: number) => boolean = () => false,
): number {
  const rows = errors.map((error, row) => ({ error, row })).filter(({ row }) => !skip(row));
  const worst = rows.reduce((a, b) => (b.error > a.error ? b : a), { error: 0, row: -1 });
  const bad = rows.filter(({ error }) => error > tolerance);
  check(
    bad.length === 0,
    `${what}: ${bad.length} of ${rows.length} rows are off by more than ${tolerance}: the worst, row ${worst.row}, by ${worst.error}; rows ${bad
      .slice(0, 20)
      .map(({ row, error }) => `${row} (${error.toExponential(1)})`)
      .join(", ")}`,
  );
  return worst.error;
}

/** Says what was measured, under the test's line. */
export function report(text: string): void {
  console.log(`    ${text}`);
}
