/** Comparison with stated tolerances. */

export class MismatchError extends Error {
  override readonly name = "MismatchError";
}

export interface Tolerance {
  /** Largest absolute difference allowed. */
  readonly abs: number;
  /** Allowed in addition, as a share of the largest magnitude expected. */
  readonly rel?: number;
}

/** @throws MismatchError naming the worst element if any differs by more than the tolerance, is not finite, or the lengths differ. */
export function assertClose(actual: ArrayLike<number>, expected: ArrayLike<number>, { abs, rel = 0 }: Tolerance, what: string): void {
  if (actual.length !== expected.length) throw new MismatchError(`${what}: ${actual.length} values, expected ${expected.length}`);
  let largest = 0;
  for (let i = 0; i < expected.length; i++) largest = Math.max(largest, Math.abs(expected[i] ?? 0));
  const allowed = abs + rel * largest;
  let worst = -1;
  let worstError = 0;
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs((actual[i] ?? Number.NaN) - (expected[i] ?? Number.NaN));
    if (Number.isNaN(error) || error > worstError) {
      worst = i;
      worstError = Number.isNaN(error) ? Number.POSITIVE_INFINITY : error;
      if (worstError === Number.POSITIVE_INFINITY) break;
    }
  }
  if (worstError > allowed)
    throw new MismatchError(
      `${what}: element ${worst} is ${actual[worst]}, expected ${expected[worst]} within ${allowed.toExponential(2)}`,
    );
}

/** @throws MismatchError at the first element that differs. */
export function assertEqual(actual: ArrayLike<number>, expected: ArrayLike<number>, what: string): void {
  if (actual.length !== expected.length) throw new MismatchError(`${what}: ${actual.length} values, expected ${expected.length}`);
  for (let i = 0; i < expected.length; i++)
    if (actual[i] !== expected[i]) throw new MismatchError(`${what}: element ${i} is ${actual[i]}, expected ${expected[i]}`);
}

/**
 * @param cancelled what a sum that cancels may be off by besides, as a share of the largest result
 * @throws MismatchError if an element is further from what is expected than `ulps` units in its last place
 */
export function assertNearest(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  ulps: number,
  what: string,
  cancelled: number = 2 ** -32,
): void {
  if (actual.length !== expected.length) throw new MismatchError(`${what}: ${actual.length} values, expected ${expected.length}`);
  const besides = Math.max(...Array.from(expected, Math.abs)) * cancelled;
  for (let i = 0; i < expected.length; i++) {
    const [value = Number.NaN, wanted = Number.NaN] = [actual[i], expected[i]];
    const unit = 2 ** (Math.floor(Math.log2(Math.max(Math.abs(wanted), 2 ** -126))) - 23);
    if (!(Math.abs(value - wanted) <= ulps * unit + besides))
      throw new MismatchError(
        `${what}: element ${i} is ${value}, ${Math.abs(value - wanted) / unit} units from ${wanted}, expected ${ulps} at most`,
      );
  }
}
