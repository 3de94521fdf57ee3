import { describe, expect, it } from "vitest";
import { type Measurement, winners } from "./winners.ts";

function measured(name: string, variant: string, ms: number, preferred = "a", preferredMs = 1): Measurement {
  return { name, operation: "op", variant, preferred, ms, preferredMs };
}

describe("winners()", () => {
  it("keeps the variant that is fastest over all cases, by the ratios of their times", () => {
    const all = [
      measured("long", "a", 100, "a", 100),
      measured("long", "b", 110, "a", 100),
      measured("short", "a", 1),
      measured("short", "b", 0.5),
    ];
    const [winner] = winners(all);
    expect(winner).toMatchObject({ operation: "op", variant: "b", times: { a: 101, b: 110.5 } });
    expect(winner?.speedup).toBeCloseTo(Math.sqrt((100 / 110) * 2));
  });

  it("keeps what the device prefers where nothing gains more than noise", () => {
    expect(winners([measured("x", "a", 1), measured("x", "b", 0.99)])).toMatchObject([{ variant: "a", speedup: 1 }]);
  });

  it("names none where the device prefers different ones by shape and no single one gains", () => {
    const all = [measured("x", "a", 1), measured("x", "b", 2), measured("y", "b", 1, "b"), measured("y", "a", 2, "b")];
    expect(winners(all)).toMatchObject([{ variant: null, speedup: 1 }]);
  });

  it("chooses no variant that failed in a case", () => {
    const all = [measured("x", "a", 1), measured("x", "b", 0.1), measured("y", "a", 1)];
    expect(winners(all)).toMatchObject([{ variant: "a", times: { a: 2 } }]);
  });

  it("keeps operations apart", () => {
    const other = { ...measured("x", "b", 0.5), operation: "other" };
    expect(winners([measured("x", "a", 1), other]).map(({ operation, variant }) => [operation, variant])).toEqual([
      ["op", "a"],
      ["other", "b"],
    ]);
  });
});
