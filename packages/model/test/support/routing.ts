/** Chosen experts and their weights against a reference's. */
import type { RoutingCapture } from "@shoal/model";
import { check } from "./compare.ts";

/** Final weights are up to routedScalingFactor (2.5), and follow scores that differ by a few units in the last place with the order of summation. */
const WEIGHT_TOLERANCE = 1e-4;

export interface ExpectedRouting {
  /** [tokens, topK] */
  readonly indices: readonly number[];
  readonly weights: Float32Array;
}

/** Compares the experts of each row as a set, but those excused, and the weight of each; gives the largest difference of a weight. */
export function compareRouting(
  { layer, indices, weights }: RoutingCapture,
  expected: ExpectedRouting,
  topK: number,
  skip: (row: number) => boolean = () => false,
): number {
  check(indices.length === expected.indices.length, `layer ${layer}: ${indices.length} choices, expected ${expected.indices.length}`);
  let worst = 0;
  for (let row = 0; row < indices.length / topK; row++) {
    if (skip(row)) continue;
    const [begin, end] = [row * topK, (row + 1) * topK];
    const experts = [...indices.subarray(begin, end)];
    const wanted = expected.indices.slice(begin, end);
    const sorted = (ids: readonly number[]): string => ids.toSorted((a, b) => a - b).join(", ");
    check(sorted(experts) === sorted(wanted), `layer ${layer}, row ${row}: experts ${sorted(experts)}, expected ${sorted(wanted)}`);
    for (const [slot, expert] of experts.entries()) {
      const error = Math.abs((weights[begin + slot] ?? Number.NaN) - (expected.weights[begin + wanted.indexOf(expert)] ?? Number.NaN));
      check(error <= WEIGHT_TOLERANCE, `layer ${layer}, row ${row}, expert ${expert}: its weight is off by ${error}`);
      worst = Math.max(worst, error);
    }
  }
  return worst;
}
