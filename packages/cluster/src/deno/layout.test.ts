import { readFileSync } from "node:fs";
import { parseConfig } from "@shoal/checkpoint";
import { describe, expect, it } from "vitest";
import { parseFleet } from "../placement/fleet.ts";
import { modelCosts } from "../placement/modelCosts.ts";
import { place } from "../placement/place.ts";
import { devicesOfPlan, parsePlan } from "../placement/planFile.ts";
import { shares } from "../placement/shares.ts";
import { type StageLayout, layoutOfPlan, layoutOfSplit } from "./layout.ts";

const config = parseConfig(JSON.parse(readFileSync(new URL("../../../tiny-model/model/config.json", import.meta.url), "utf8")));

/** How many members have each expert of a stage. */
function copies({ experts = [] }: StageLayout): readonly number[] {
  const counts = Array.from({ length: config.nRoutedExperts }, () => 0);
  for (const expert of experts.flatMap((each) => each.experts)) counts[expert] = (counts[expert] ?? 0) + 1;
  return counts;
}

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

describe("layoutOfSplit()", () => {
  it("gives every layer to one member, and every expert of a layer to one", () => {
    for (const split of ["layers", "experts", "both"] as const) {
      const layout = layoutOfSplit(split, [2, 1, 1], config);
      expect(layout.map(({ member }) => member)).toEqual(split === "experts" ? [0] : [0, 1, 2]);
      expect(layout.map(({ layers }) => layers.begin)).toEqual([0, ...layout.slice(0, -1).map(({ layers }) => layers.end)]);
      expect(layout.at(-1)?.layers.end).toBe(6);
      for (const stage of layout) {
        expect(stage.experts?.[0]?.member).toBe(split === "layers" ? undefined : stage.member);
        if (split !== "layers") expect(copies(stage).every((count) => count === 1)).toBe(true);
      }
    }
  });
});

describe("layoutOfPlan()", () => {
  const gpu = (name: string, memoryBytes: number) => ({
    name,
    memoryBytes,
    bytesPerSecond: 2.5e12,
    flopsPerSecond: 3e14,
    adapter: "H100",
    env: { DRI_PRIME: `pci-${name}` },
  });
  // The first has no room for its layers' experts, the last none for more layers, and the others none for a layer.
  const fleet = parseFleet({
    devices: [gpu("a", 14e6), gpu("b", 5.5e6), gpu("c", 5.5e6), gpu("d", 28e6)],
    defaultLink: { latencySeconds: 1e-5, bytesPerSecond: 5e10 },
  });

  it.each([1, 2])("is what place() planned, with %i replicas of each expert, through a file", (replicas) => {
    const plan = place(modelCosts(config, "f32", { mtp: true }), fleet, { contextTokens: 512, kvTokens: 512, replicas });
    if (!plan.fits) throw new Error(plan.why.join());
    const file = JSON.parse(JSON.stringify({ ...plan, devices: devicesOfPlan(plan, fleet), activations: "fp8" })) as unknown;
    const loaded = parsePlan(file);
    expect(loaded).toMatchObject({ activations: "fp8" });
    expect(loaded.devices[0]).toEqual({
      name: loaded.devices[0]?.name,
      adapter: "H100",
      env: { DRI_PRIME: `pci-${loaded.devices[0]?.name}` },
    });
    const layout = layoutOfPlan(loaded, config);
    expect(layout.map(({ layers }) => [layers.begin, layers.end])).toEqual(plan.stages.map(({ begin, end }) => [begin, end]));
    for (const [index, stage] of layout.entries()) {
      const { helpers = [] } = plan.stages[index] ?? {};
      expect(stage.experts?.length).toBe(helpers.length > 0 && stage.layers.end > config.nDenseLayers ? helpers.length + 1 : undefined);
      if (stage.experts) expect(copies(stage).every((count) => count === Math.min(replicas, helpers.length + 1))).toBe(true);
    }
    expect(plan.stages.some(({ helpers }) => helpers.length > 0)).toBe(true);
    expect(() => layoutOfPlan(loaded, { ...config, nLayers: 61 })).toThrow("Cannot use the plan: it ends with layer 6, expected 61");
  });
});

describe("parsePlan()", () => {
  const share = { device: "a", firstExpert: 0, experts: 8 };
  const plan = {
    devices: [{ name: "a" }, { name: "b" }],
    stages: [
      { ...share, begin: 0, end: 3, helpers: [] },
      { ...share, device: "b", begin: 3, end: 6, helpers: [] },
    ],
  };
  const stage = (index: number, more: object): unknown => ({
    ...plan,
    stages: plan.stages.map((each, i) => (i === index ? { ...each, ...more } : each)),
  });

  it("takes a plan, and names the field that is wrong with another", () => {
    expect(parsePlan(plan).activations).toBe("f32");
    expect(() => parsePlan([])).toThrow("Cannot use the plan");
    expect(() => parsePlan({ fits: false, why: [] })).toThrow("'devices' is wrong");
    expect(() => parsePlan(stage(1, { begin: 4 }))).toThrow("'stages.1' has layers 4 to 6, expected some from 3 on");
    expect(() => parsePlan(stage(1, { device: "c" }))).toThrow("'stages.1' names 'c'");
    expect(() => parsePlan(stage(1, { device: "a" }))).toThrow("'stages.1.device' is 'a' again");
    expect(() => parsePlan(stage(0, { helpers: [{ ...share, device: "a" }] }))).toThrow("names a device twice");
    expect(() => parsePlan(stage(0, { experts: -1 }))).toThrow("'stages.0.experts' is wrong");
  });

  it("lets a file choose a GPU for a process, and nothing else of its environment", () => {
    const opened = (env: object): unknown => ({ ...plan, devices: [{ name: "a", env }, { name: "b" }] });
    expect(parsePlan(opened({ DRI_PRIME: "1" })).devices[0]?.env).toEqual({ DRI_PRIME: "1" });
    expect(() => parsePlan(opened({ LD_PRELOAD: "/tmp/x.so" }))).toThrow("'devices.0.env");
  });
});
