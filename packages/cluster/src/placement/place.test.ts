import { readFileSync } from "node:fs";
import { parseConfig } from "@shoal/checkpoint";
import { describe, expect, it } from "vitest";
import { CostModel, DEFAULT_WORKLOAD, type PlanCost, type StageChoice, planCost } from "./cost.ts";
import { type Device, type Fleet, Links, parseFleet } from "./fleet.ts";
import { type ModelCosts, modelCosts } from "./modelCosts.ts";
import { place } from "./place.ts";

function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Six layers, the first dense: small enough to try everything. */
const SMALL: ModelCosts = {
  layers: Array.from({ length: 6 }, (_, layer) => ({ bytes: layer === 0 ? 300e6 : 200e6, expertBytes: layer === 0 ? 0 : 40e6 })),
  embeddingBytes: 400e6,
  headBytes: 400e6,
  mtpBytes: 0,
  nRoutedExperts: 16,
  nActivatedExperts: 4,
  hiddenSize: 4096,
  kvBytes: 1200,
  activationBytes: 1e6,
  bytesPerParameter: 1,
};

function fleet(seed: number): Fleet {
  const next = random(seed);
  const pick = <T>(values: readonly T[]): T => values[Math.floor(next() * values.length)] as T;
  const count = 2 + Math.floor(next() * 3);
  const devices = Array.from({ length: count }, (_, index) => ({
    name: `d${index}`,
    memoryBytes: pick([1.5e9, 2.5e9, 4e9, 8e9]),
    bytesPerSecond: pick([20e9, 60e9, 200e9, 900e9]),
    flopsPerSecond: pick([1e12, 5e12, 30e12]),
    layerSeconds: pick([1e-5, 1e-4]),
    readbackSeconds: pick([2e-4, 1e-3]),
  }));
  const links = devices.flatMap((a, i) =>
    devices.slice(i + 1).map((b) => ({
      between: [a.name, b.name],
      latencySeconds: pick([2e-5, 1e-3, 2e-2]),
      bytesPerSecond: pick([1e7, 1e9, 1e10]),
    })),
  );
  return parseFleet({ devices, links });
}

/** The best of all orders, all cuts and all helpers. */
function exhaustive(model: ModelCosts, { devices, ...links }: Fleet): PlanCost | undefined {
  const costs = new CostModel(model, new Links(links), DEFAULT_WORKLOAD);
  let best: PlanCost | undefined;
  const layers = model.layers.length;
  const cuts = (stages: readonly { device: Device; helpers: readonly Device[] }[], begin: number, done: readonly StageChoice[]): void => {
    const [stage, ...rest] = stages;
    if (!stage) return;
    for (let end = rest.length === 0 ? layers : begin + 1; end <= layers - rest.length; end++) {
      const chosen = [...done, { ...stage, begin, end }];
      if (rest.length > 0) cuts(rest, end, chosen);
      else {
        const cost = planCost(costs, chosen);
        if (cost && cost.requestSeconds < (best?.requestSeconds ?? Number.POSITIVE_INFINITY)) best = cost;
      }
    }
  };
  const assign = (order: readonly Device[], rest: readonly Device[], helpers: readonly (readonly Device[])[]): void => {
    const [device, ...others] = rest;
    if (!device) {
      cuts(
        order.map((stage, index) => ({ device: stage, helpers: helpers[index] ?? [] })),
        0,
        [],
      );
      return;
    }
    assign(order, others, helpers);
    for (const index of order.keys())
      assign(
        order,
        others,
        order.map((_, i) => [...(helpers[i] ?? []), ...(i === index ? [device] : [])]),
      );
  };
  const orders = (order: readonly Device[], rest: readonly Device[]): void => {
    if (order.length > 0) assign(order, rest, []);
    for (const device of rest)
      orders(
        [...order, device],
        rest.filter((other) => other !== device),
      );
  };
  orders([], devices);
  return best;
}

describe("place()", () => {
  it("is within 10 % of the best plan that there is, for 40 small fleets", () => {
    const worst: number[] = [];
    let fitting = 0;
    let chained = 0;
    let helped = 0;
    for (let seed = 1; seed <= 40; seed++) {
      const devices = fleet(seed);
      const best = exhaustive(SMALL, devices);
      const plan = place(SMALL, devices);
      expect(plan.fits).toBe(best !== undefined);
      if (!plan.fits || !best) continue;
      fitting++;
      if (plan.stages.length > 1) chained++;
      if (plan.stages.some(({ helpers }) => helpers.length > 0)) helped++;
      worst.push(plan.requestSeconds / best.requestSeconds);
    }
    console.log(
      `${fitting} fleets fit, ${chained} plans with several stages, ${helped} with helpers; worst ${Math.max(...worst).toFixed(3)} of the best`,
    );
    expect(Math.max(...worst)).toBeLessThanOrEqual(1.1);
    expect(Math.min(...worst)).toBeGreaterThanOrEqual(1 - 1e-9);
    expect(fitting).toBeGreaterThan(20);
    expect(chained).toBeGreaterThan(3);
    expect(helped).toBeGreaterThan(3);
  });

  it("says what is missing when a model does not fit", () => {
    const plan = place(SMALL, parseFleet({ devices: [{ name: "small", memoryBytes: 2e9, bytesPerSecond: 1e11, flopsPerSecond: 1e12 }] }));
    expect(plan).toMatchObject({ fits: false });
    if (plan.fits) return;
    expect(plan.missingBytes).toBeGreaterThan(3e9);
    expect(plan.why.join()).toContain("are missing");
  });

  it("keeps to memory, and puts every layer and every expert somewhere", () => {
    for (let seed = 1; seed <= 40; seed++) {
      const devices = fleet(seed);
      const plan = place(SMALL, devices);
      if (!plan.fits) continue;
      let next = 0;
      for (const { device, begin, end, experts, helpers, memoryBytes } of plan.stages) {
        expect(begin).toBe(next);
        next = end;
        if (end > 1) expect(helpers.reduce((sum, helper) => sum + helper.experts, experts)).toBe(16);
        for (const each of [{ device, memoryBytes }, ...helpers])
          expect(each.memoryBytes).toBeLessThanOrEqual(devices.devices.find(({ name }) => name === each.device)?.memoryBytes ?? 0);
      }
      expect(next).toBe(6);
    }
  });

  it("spreads the 671B model over eight large GPUs, and not over links that are too slow for experts", () => {
    const config = parseConfig(JSON.parse(readFileSync(new URL("../../../../configs/config_671B.json", import.meta.url), "utf8")));
    const model = modelCosts(config);
    const gpu = (index: number) => ({ name: `gpu${index}`, memoryBytes: 140e9, bytesPerSecond: 2.5e12, flopsPerSecond: 3e14 });
    const devices = Array.from({ length: 8 }, (_, index) => gpu(index));
    const plan = place(model, parseFleet({ devices, defaultLink: { latencySeconds: 0.02, bytesPerSecond: 1e7 } }));
    expect(plan.fits).toBe(true);
    if (!plan.fits) return;
    expect(plan.stages.length).toBeGreaterThanOrEqual(5);
    expect(plan.stages.every(({ helpers }) => helpers.length === 0)).toBe(true);
    // 37 billion parameters a token, and a hop of 20 ms for each stage.
    expect(plan.decodeSeconds).toBeGreaterThan(0.1);
    expect(plan.decodeSeconds).toBeLessThan(0.2);
  });
});

describe("parseFleet()", () => {
  it("names the field that is wrong", () => {
    const device = { name: "a", memoryBytes: 1e9, bytesPerSecond: 1e9, flopsPerSecond: 1e9 };
    expect(() => parseFleet({ devices: [{ ...device, memoryBytes: -1 }] })).toThrow("'devices.0.memoryBytes' is wrong");
    expect(() => parseFleet({ devices: [device, device] })).toThrow("'devices' has a name twice");
    expect(() => parseFleet({ devices: [device], links: [{ between: ["a", "b"], latencySeconds: 0, bytesPerSecond: 1 }] })).toThrow(
      "names 'b'",
    );
    expect(() => parseFleet([])).toThrow("Cannot use the devices");
  });
});
