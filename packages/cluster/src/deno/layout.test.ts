import { describe, expect, it } from "vitest";
import { shares } from "./deviceFleet.ts";

describe("shares()", () => {
  it("divides in proportion, everything, and one at least for each", () => {
    expect(shares(61, [1, 1])).toEqual([31, 30]);
    expect(shares(61, [3, 1])).toEqual([46, 15]);
    expect(shares(4, [100, 1, 1])).toEqual([2, 1, 1]);
    expect(shares(3, [1, 1, 1])).toEqual([1, 1, 1]);
    expect(() => shares(2, [1, 1, 1])).toThrow("Cannot divide 2 among 3 devices");
    for (let parts = 1; parts < 9; parts++)
      expect(
        shares(
          27,
          Array.from({ length: parts }, (_, i) => i + 1),
        ).reduce((sum, count) => sum + count, 0),
      ).toBe(27);
  });
});
