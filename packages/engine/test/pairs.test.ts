import { describe, expect, it } from "vitest";
import { order, speedup } from "../bench/pairs.ts";

describe("speedup", () => {
  it("is the median of the pairs, which one that was disturbed does not move", () => {
    const { median, pairs } = speedup([
      { before: 11, after: 10 },
      { before: 12, after: 10 },
      { before: 300, after: 10 },
    ]);
    expect(median).toBeCloseTo(1.2);
    expect(pairs).toBe(3);
  });

  it("says nothing of how sure it is with five pairs, of which all lie on one side once in sixteen times", () => {
    const five = Array.from({ length: 5 }, () => ({ before: 2, after: 1 }));
    expect(speedup(five)).toMatchObject({ low: Number.NEGATIVE_INFINITY, high: Number.POSITIVE_INFINITY });
    expect(speedup([...five, { before: 2, after: 1 }])).toMatchObject({ low: 2, high: 2 });
  });

  it("encloses the median by the ranks of tables of the sign test", () => {
    // Of 20 the 6th and the 15th, of 50 the 18th and the 33rd; of many, the middle less and more about a square root of their number.
    for (const [count, low, high] of [
      [20, 6, 15],
      [50, 18, 33],
      [4001, 1939, 2063],
    ] as const) {
      const pairs = Array.from({ length: count }, (_, index) => ({ before: ((index * 7) % count) + 1, after: 1 }));
      expect(speedup(pairs)).toMatchObject({ low, high });
    }
  });

  it("misses the true median of drawn ratios in no more than a twentieth of the cases", () => {
    let state = 1;
    const drawn = (): number => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
    let missed = 0;
    for (let trial = 0; trial < 2000; trial++) {
      const { low, high } = speedup(Array.from({ length: 30 }, () => ({ before: drawn() ** 3, after: 1 })));
      if (low > 0.125 || high < 0.125) missed++;
    }
    expect(missed).toBeGreaterThan(20);
    expect(missed).toBeLessThan(100);
  });
});

describe("order", () => {
  it.each([2, 3, 4])("gives %i each place as often, and each before the other as often", (count) => {
    const all = Array.from({ length: count }, (_, index) => index);
    const turns = Array.from({ length: 2 * count }, (_, turn) => order(all, turn));
    for (const one of all) {
      expect(turns.map((turn) => turn.indexOf(one)).toSorted((a, b) => a - b)).toEqual(all.flatMap((place) => [place, place]));
      for (const other of all.slice(one + 1)) expect(turns.filter((turn) => turn.indexOf(one) < turn.indexOf(other))).toHaveLength(count);
    }
  });
});
