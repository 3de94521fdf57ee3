import { readFileSync } from "node:fs";
import { parseConfig } from "@shoal/checkpoint";
import { describe, expect, it } from "vitest";
import { schemaTensors } from "./estimate.ts";
import { expertNeeds } from "./expertNeeds.ts";

const config = parseConfig(JSON.parse(readFileSync(new URL("../../tiny-model/model/config.json", import.meta.url), "utf8")));
const tensors = { tensors: schemaTensors(config) } as Parameters<typeof expertNeeds>[0]["tensors"];
/** FP8: gate and up of 128 x 256, down of 256 x 128, and an f32 scale for each 128 x 128 of them. */
const EXPERT_BYTES = 3 * 128 * 256 + 3 * 2 * 4;

describe("expertNeeds()", () => {
  it("counts the experts of every layer that has some, and those of one token as the least", () => {
    const { layers, bytes, leastBytes } = expertNeeds({ config, tensors });
    expect(layers).toEqual([1, 2, 3, 4, 5]);
    expect(bytes).toBe(5 * 32 * EXPERT_BYTES);
    expect(leastBytes).toBe(5 * 4 * EXPERT_BYTES);
    expect(expertNeeds({ config, tensors }, true).layers).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it("has none to count in a model of dense layers", () => {
    expect(expertNeeds({ config: { ...config, nDenseLayers: config.nLayers }, tensors })).toEqual({ layers: [], bytes: 0, leastBytes: 0 });
  });
});
