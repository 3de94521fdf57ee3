import type { Command } from "@shoal/gpu";
import { describe, expect, it } from "vitest";
import { repeatsFor, submitRuns } from "./timing.ts";

function submitted(commandsOfRun: number, runs: number): readonly number[] {
  const sizes: number[] = [];
  const gpu = { submit: (commands: readonly Command[]) => void sizes.push(commands.length) };
  submitRuns(
    gpu,
    Array.from({ length: commandsOfRun }, () => ({}) as Command),
    runs,
  );
  return sizes;
}

describe("submitRuns", () => {
  it("submits every run once, in slices of whole runs", () => {
    expect(submitted(9, 7)).toEqual([27, 27, 9]);
    expect(submitted(1, 64)).toEqual([32, 32]);
    expect(submitted(100, 2)).toEqual([100, 100]);
  });

  it("submits something where there is nothing to run, so that a wait has what to wait for", () => {
    expect(submitted(3, 0)).toEqual([0]);
  });
});

describe("repeatsFor", () => {
  /** A run takes 0.25 ms; waits end `late`. */
  const timing = (late: number, asked: number[]) => async (repeats: number) => {
    asked.push(repeats);
    return repeats * 0.25 + late;
  };

  it("gives as many as take that long, however late a wait ends", async () => {
    for (const late of [0, 3]) {
      const repeats = await repeatsFor(timing(late, []), { ms: 120, most: 4096 });
      expect(repeats * 0.25 + late).toBeGreaterThanOrEqual(120);
      expect(repeats * 0.25).toBeLessThan(240);
    }
  });

  it("asks for one run where any time will do, and for no more than the most", async () => {
    const asked: number[] = [];
    expect(await repeatsFor(timing(0, asked), { ms: 0, most: 4096 })).toBe(1);
    expect(await repeatsFor(timing(0, asked), { ms: 1e6, most: 100 })).toBe(100);
    expect(Math.max(...asked)).toBe(100);
  });
});
