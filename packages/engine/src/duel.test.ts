import { describe, expect, it } from "vitest";
import { BLOCK_STEPS, Duel } from "./duel.ts";

/** Steps of `ms`, by number of drafts, until there is a verdict. @returns it, and how many blocks that took */
function fight(duel: Duel, ms: (drafts: number, block: number) => number, gain: number, bar = 1): readonly [string, number] {
  for (let block = 0; block < 100; block++) {
    while (!duel.add(ms(duel.drafts, block), 1));
    const verdict = duel.verdict(gain, bar);
    if (verdict) return [verdict, block + 1];
  }
  return ["none", 100];
}

describe("Duel", () => {
  it("takes turns, drafts before plain steps", () => {
    expect(new Duel(1, 0).drafts).toBe(1);
    const duel = new Duel(0, 2);
    expect(duel.drafts).toBe(2);
    for (let step = 1; step < BLOCK_STEPS; step++) expect(duel.add(1, 1)).toBe(false);
    expect(duel.add(1, 1)).toBe(true);
    expect(duel.drafts).toBe(0);
    expect(duel.add(1, BLOCK_STEPS)).toBe(true);
    expect(duel.drafts).toBe(2);
  });

  it("ends after two pairs where both are clearly against drafts, or against fewer, after four where more are better", () => {
    expect(fight(new Duel(1, 0), (drafts) => 1 + drafts, 1.6)).toEqual(["worse", 4]);
    expect(fight(new Duel(1, 0), (drafts) => 1 + drafts / 4, 1.6)).toEqual(["better", 8]);
    expect(fight(new Duel(3, 1), (drafts) => 1 + drafts / 8, 1.6)).toEqual(["better", 8]);
    expect(fight(new Duel(0, 1), (drafts) => 1 + drafts / 4, 1 / 1.6)).toEqual(["worse", 4]);
    expect(fight(new Duel(0, 1), (drafts) => 1 + drafts, 1 / 1.6)).toEqual(["better", 4]);
  });

  it("goes on with a further draft only while that leads, with the first after the third pair", () => {
    const level = (): number => 1;
    expect(fight(new Duel(3, 1), level, 0.99)).toEqual(["worse", 2]);
    expect(fight(new Duel(3, 1), (drafts, block) => (drafts === 3 && block > 1 ? 2 : 1), 1.2)).toEqual(["worse", 4]);
    expect(fight(new Duel(1, 0), level, 0.99)).toEqual(["worse", 6]);
  });

  it("takes what lies within the noise for no reason to draft", () => {
    // The machine is twice as slow in every third block.
    const noisy = (drafts: number, block: number): number => (1 + drafts * 0.6) * (block % 3 === 0 ? 2 : 1);
    expect(fight(new Duel(1, 0), noisy, 1.6)[0]).toBe("worse");
    expect(fight(new Duel(0, 1), noisy, 1 / 1.6)[0]).toBe("better");
  });

  it("is not misled by a block in which something else happened", () => {
    for (const disturbed of [0, 1, 2, 3])
      expect(fight(new Duel(1, 0), (drafts, block) => (block === disturbed ? 50 : 1 + drafts / 4), 1.6)[0]).toBe("better");
  });

  it("begins a block again after an interruption, and tells what the challenger took", () => {
    const duel = new Duel(1, 0);
    duel.spend(7, 2);
    duel.add(7, BLOCK_STEPS - 1);
    duel.interrupt();
    expect(duel.add(1, BLOCK_STEPS - 1)).toBe(false);
    duel.add(1, 1);
    duel.spend(7, 2);
    expect(duel.spent).toEqual({ ms: 7, steps: 2 });
  });
});
