import { readFileSync } from "node:fs";
import { parseConfig } from "@shoal/checkpoint";
import { describe, expect, it } from "vitest";
import { measuredTerms } from "./calibrate.ts";
import { CostModel, DEFAULT_WORKLOAD, planCost } from "./cost.ts";
import { type Device, Links } from "./fleet.ts";
import { modelCosts } from "./modelCosts.ts";

const config = parseConfig(JSON.parse(readFileSync(new URL("../../../tiny-model/model/config.json", import.meta.url), "utf8")));
const model = modelCosts(config, "f32");
const DEVICE: Device = {
  name: "measured",
  memoryBytes: 1e12,
  bytesPerSecond: 2e9,
  flopsPerSecond: 1e15,
  layerSeconds: 0.002,
  stepSeconds: 0.0015,
  readbackSeconds: 0.001,
};
const ROUND_TRIP = 0.0005;

/** As a device with these terms would be timed. */
function timed(begin: number, end: number, device = DEVICE): { begin: number; end: number; seconds: number } {
  const costs = new CostModel(model, new Links({ links: [] }), DEFAULT_WORKLOAD);
  const { decodeSeconds = 0 } = costs.stage({ device, helpers: [], begin, end }) ?? {};
  return { begin, end, seconds: decodeSeconds + device.readbackSeconds + ROUND_TRIP };
}

const rest = { readbackSeconds: DEVICE.readbackSeconds, roundTripSeconds: ROUND_TRIP };

describe("a device's terms from timed steps", () => {
  it("are those of the device, and predict a pipeline of several like it", () => {
    const terms = measuredTerms(model, DEFAULT_WORKLOAD, { few: timed(1, 2), more: timed(1, 5), whole: timed(0, config.nLayers), ...rest });
    expect(terms.layerSeconds).toBeCloseTo(DEVICE.layerSeconds, 6);
    expect(terms.stepSeconds).toBeCloseTo(DEVICE.stepSeconds, 6);
    expect(terms.bytesPerSecond / DEVICE.bytesPerSecond).toBeCloseTo(1, 3);
    const links = new Links({ links: [], defaultLink: { latencySeconds: ROUND_TRIP, bytesPerSecond: 1e12 } });
    const stages = [0, 1].map((k) => ({ device: { ...DEVICE, ...terms, name: `d${k}` }, helpers: [], begin: 3 * k, end: 3 * k + 3 }));
    const predicted = planCost(new CostModel(model, links, DEFAULT_WORKLOAD), stages)?.decodeSeconds ?? 0;
    expect(predicted).toBeCloseTo(timed(0, 3).seconds + timed(3, 6).seconds, 6);
  });

  it("are never negative, whatever noise makes of the times", () => {
    const few = timed(1, 2);
    const noisy = {
      few,
      more: { ...timed(1, 5), seconds: few.seconds / 2 },
      whole: { ...timed(0, config.nLayers), seconds: 1e-6 },
      ...rest,
    };
    for (const value of Object.values(measuredTerms(model, DEFAULT_WORKLOAD, noisy))) expect(value).toBeGreaterThanOrEqual(0);
  });

  it("need steps of different numbers of layers", () => {
    const same = { few: timed(1, 3), more: timed(2, 4), whole: timed(0, config.nLayers), ...rest };
    expect(() => measuredTerms(model, DEFAULT_WORKLOAD, same)).toThrow(/steps of 2 and 2 layers were timed/);
  });
});
