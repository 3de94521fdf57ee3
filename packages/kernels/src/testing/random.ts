/** Seeded numbers, so that a failing case fails again. */

export interface Random {
  /** Uniform in [0, 1). */
  uniform(): number;
  /** Standard normal. */
  normal(): number;
  /** An integer in [0, below). */
  integer(below: number): number;
}

/** mulberry32 (Tommy Ettinger, public domain), 2^32 states: enough for test data. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  const uniform = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 15), z | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  };
  return {
    uniform,
    normal: () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()),
    integer: (below) => Math.floor(uniform() * below),
  };
}

/** `count` normal numbers, rounded to f32, times `scale`. */
export function normals(random: Random, count: number, scale = 1): Float64Array {
  return Float64Array.from({ length: count }, () => Math.fround(random.normal() * scale));
}
