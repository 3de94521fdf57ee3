import type { Command } from "@shoal/gpu";
import { describe, expect, it } from "vitest";
import { submitRuns } from "./timing.ts";

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
