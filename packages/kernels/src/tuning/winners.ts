/** Which variant of an operation to keep, from what was measured. Pure. */

export interface Measurement {
  /** Of the case. */
  readonly name: string;
  readonly operation: string;
  readonly variant: string;
  /** What the device runs in this case where nothing is chosen: it may differ from case to case. */
  readonly preferred: string;
  readonly ms: number;
  /** What that takes. */
  readonly preferredMs: number;
}

export interface Winner {
  readonly operation: string;
  /** Null: what the device prefers, which differs by shape, is as fast as any one of them. */
  readonly variant: string | null;
  /** How much faster than what the device prefers, over all cases: 1.25 takes 20 % less time. */
  readonly speedup: number;
  /** Milliseconds by variant, all cases together; only of variants that ran in all. */
  readonly times: Readonly<Record<string, number>>;
}

/** A difference that is no noise. */
const LEAST_GAIN = 1.02;

/** In the order in which the operations were first measured. */
export function winners(measurements: readonly Measurement[]): readonly Winner[] {
  return [...groupsOf(measurements, ({ operation }) => operation)].map(([operation, all]) => winner(operation, all));
}

function winner(operation: string, all: readonly Measurement[]): Winner {
  const cases = new Set(all.map(({ name }) => name)).size;
  const preferred = new Set(all.map((one) => one.preferred));
  const times: Record<string, number> = {};
  const only = [...preferred][0];
  let best: { variant: string | null; speedup: number } = { variant: preferred.size === 1 && only !== undefined ? only : null, speedup: 1 };
  for (const [variant, runs] of groupsOf(all, (one) => one.variant)) {
    if (runs.length < cases) continue;
    times[variant] = runs.reduce((sum, { ms }) => sum + ms, 0);
    const speedup = Math.exp(runs.reduce((sum, { ms, preferredMs }) => sum + Math.log(preferredMs / ms), 0) / cases);
    if (speedup >= LEAST_GAIN && speedup > best.speedup) best = { variant, speedup };
  }
  return { operation, ...best, times };
}

function groupsOf<T>(all: readonly T[], key: (one: T) => string): ReadonlyMap<string, readonly T[]> {
  const groups = new Map<string, T[]>();
  for (const one of all) {
    const group = groups.get(key(one));
    if (group) group.push(one);
    else groups.set(key(one), [one]);
  }
  return groups;
}
