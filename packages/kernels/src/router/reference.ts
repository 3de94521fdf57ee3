/** The router in f64, for comparison: sorts where the kernel counts. */
import type { RouterSpec } from "./kernel.ts";

export interface RoutedToken {
  readonly experts: readonly number[];
  readonly weights: readonly number[];
  /**
   * The smallest relative distance between two unequal scores whose order decides something. Below about 1e-5, f32 may choose otherwise. Equal scores, which
   * come from equal inputs, do not count.
   */
  readonly margin: number;
}

/** One token's choice; logits and bias [nRoutedExperts]. */
export function routerReference(logits: Float64Array, bias: Float64Array | undefined, spec: RouterSpec): RoutedToken {
  const { nRoutedExperts, nActivatedExperts, nExpertGroups, topkGroup } = spec;
  const scores = spec.scoreFunc === "sigmoid" ? logits.map((x) => 1 / (1 + Math.exp(-x))) : softmax(logits);
  const choices = scores.map((score, e) => score + (bias?.[e] ?? 0));
  const size = nRoutedExperts / nExpertGroups;
  const groupScores = Array.from({ length: nExpertGroups }, (_, g) => {
    const [best = 0, second = 0] = [...choices.subarray(g * size, (g + 1) * size)].sort((a, b) => b - a);
    return spec.groupScore === "max" || size === 1 ? best : best + second;
  });
  const kept = ranked(groupScores);
  const allowed = new Set(kept.slice(0, topkGroup));
  const masked = [...choices].map((choice, e) =>
    nExpertGroups === 1 || allowed.has(Math.floor(e / size)) ? choice : Number.NEGATIVE_INFINITY,
  );
  const order = ranked(masked);
  const experts = order.slice(0, nActivatedExperts);
  const chosen = experts.map((e) => scores[e] ?? 0);
  const sum = chosen.reduce((a, b) => a + b, 0) + 1e-20;
  const weights = chosen.map((score) => (spec.normTopkProb ? score / sum : score) * spec.routedScalingFactor);
  const shared = Array.from({ length: spec.sharedSlots }, (_, i) => nRoutedExperts + i);
  const groupMargin = nExpertGroups === 1 ? Number.POSITIVE_INFINITY : smallestGap(groupScores, kept, topkGroup - 1, topkGroup);
  return {
    experts: [...experts, ...shared],
    weights: [...weights, ...shared.map(() => 1)],
    margin: Math.min(groupMargin, smallestGap(masked, order, 0, nActivatedExperts)),
  };
}

function softmax(logits: Float64Array): Float64Array {
  const highest = Math.max(...logits);
  const powers = logits.map((x) => Math.exp(x - highest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((x) => x / sum);
}

/** Indices by falling value, the lower index first among equals. */
function ranked(values: readonly number[]): number[] {
  return values.map((_, i) => i).sort((a, b) => (values[b] ?? 0) - (values[a] ?? 0) || a - b);
}

/** Over neighbours of the order at ranks `first` .. `last`. */
function smallestGap(values: readonly number[], order: readonly number[], first: number, last: number): number {
  let smallest = Number.POSITIVE_INFINITY;
  for (let i = first; i < Math.min(last, order.length - 1); i++) {
    const a = values[order[i] ?? 0] ?? 0;
    const b = values[order[i + 1] ?? 0] ?? 0;
    if (a !== b && Number.isFinite(b)) smallest = Math.min(smallest, (a - b) / Math.max(Math.abs(a), Math.abs(b)));
  }
  return smallest;
}
