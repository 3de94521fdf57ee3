import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseConfig } from "@shoal/checkpoint";
import { modelCosts } from "@shoal/cluster";
import { describe, expect, test } from "vitest";
import { type HelperOffer, type SharingQuestion, LAN_RTT_MS, shareExperts } from "../src/plan/experts.ts";

const config = parseConfig(JSON.parse(readFileSync(fileURLToPath(new URL("../../../configs/config_671B.json", import.meta.url)), "utf8")));
const model = modelCosts(config);
const GIB = 2 ** 30;
/** A processor with its graphics, or a laptop of Apple's: its memory's speed, and a readback of a fifth of a millisecond. */
const LAPTOP = { bytesPerSecond: 100e9, readbackMs: 0.2 };
const GIGABIT = 125e6;

const sum = (layers: { begin: number; end: number }, of: (layer: (typeof model.layers)[number]) => number): number =>
  model.layers.slice(layers.begin, layers.end).reduce((all, layer) => all + of(layer), 0);
/** A 671B's layer takes 11.5 GB, 11.3 of them experts. */
const expertBytes: SharingQuestion["expertBytes"] = (layers) => sum(layers, (layer) => layer.expertBytes);
const bytes: SharingQuestion["bytes"] = (layers, experts) => 0.5 * GIB + sum(layers, (layer) => layer.bytes + experts * layer.expertBytes);

function question(memoryGiB: number, helpers: readonly HelperOffer[], more: Partial<SharingQuestion> = {}): SharingQuestion {
  return { model, gap: { begin: 10, end: 20 }, bytes, expertBytes, memoryBytes: memoryGiB * GIB, device: LAPTOP, helpers, ...more };
}

function helper(peer: string, memoryGiB: number, rttMs: number, more: Partial<HelperOffer> = {}): HelperOffer {
  return { peer, memoryBytes: memoryGiB * GIB, rttMs, alone: 0, linkBytesPerSecond: GIGABIT, ...LAPTOP, ...more };
}

describe("shareExperts()", () => {
  test("at 0.2 ms two peers hold a 671B's layer that neither could hold, at 20 ms they do not", () => {
    const sharing = shareExperts(question(8, [helper("h", 7, 0.2)]));
    expect(sharing?.layers).toEqual({ begin: 10, end: 11 });
    const [piece] = sharing?.pieces ?? [];
    expect(piece).toEqual({ peer: "h", begin: sharing?.own, end: 256 });
    expect(bytes({ begin: 10, end: 11 }, sharing?.own ?? 0)).toBeLessThanOrEqual(8 * GIB);
    expect((256 - (sharing?.own ?? 0)) * expertBytes({ begin: 10, end: 11 })).toBeLessThanOrEqual(7 * GIB);
    expect(shareExperts(question(8, [helper("h", 7, 20)]))).toBeUndefined();
  });

  test("at 0.2 ms a helper that could hold the layer whole reads half of its experts instead, which is quicker; at 3 ms, or over a slow link, it holds the layer", () => {
    const whole = { alone: 1 };
    const near = shareExperts(question(8, [helper("h", 12, 0.2, whole)]));
    expect(near?.layers).toEqual({ begin: 10, end: 11 });
    // As quick as one another, so each has about half.
    expect(near?.own).toBeGreaterThan(96);
    expect(near?.own).toBeLessThan(160);
    expect(LAN_RTT_MS).toBeGreaterThan(3);
    const twice = { bytesPerSecond: 200e9, readbackMs: 0.2 };
    const quicker = (rttMs: number) => shareExperts(question(8, [helper("h", 12, rttMs, { ...whole, ...twice })], { device: twice }));
    expect(quicker(0.2)).toBeDefined();
    expect(quicker(3)).toBeUndefined();
    expect(shareExperts(question(8, [helper("h", 12, 20, whole)]))).toBeUndefined();
    expect(shareExperts(question(8, [helper("h", 12, 0.2, { ...whole, linkBytesPerSecond: 2e6 })]))).toBeUndefined();
    // Together they hold more than it could.
    expect(shareExperts(question(8, [helper("h", 16, 0.2, whole)]))?.layers).toEqual({ begin: 10, end: 12 });
    // A device that reads as fast as its memory's 1 TB/s has nothing to gain.
    const fast = { bytesPerSecond: 1e12, readbackMs: 1 };
    expect(shareExperts(question(8, [helper("h", 12, 0.2, { ...whole, ...fast })], { device: fast }))).toBeUndefined();
  });

  test("as many layers as fit all of them together, whose experts are held without a gap", () => {
    const helpers = [helper("a", 12, 0.3), helper("b", 4, 0.2), helper("far", 64, 20), helper("c", 10, 0.4)];
    const sharing = shareExperts(question(6, helpers));
    expect(sharing?.layers).toEqual({ begin: 10, end: 12 });
    let at = sharing?.own ?? -1;
    for (const { begin, end, peer } of sharing?.pieces ?? []) {
      expect(begin).toBe(at);
      expect(peer).not.toBe("far");
      at = end;
    }
    expect(at).toBe(256);
  });

  test("nothing where they are too small together, where nobody offers, and where no layer has experts", () => {
    expect(shareExperts(question(6, [helper("h", 4, 0.2)]))).toBeUndefined();
    expect(shareExperts(question(8, []))).toBeUndefined();
    expect(shareExperts(question(0.4, [helper("h", 64, 0.2)]))).toBeUndefined();
    expect(shareExperts(question(8, [helper("h", 64, 0.2)], { gap: { begin: 0, end: 3 } }))).toBeUndefined();
    // Of a gap that ends with a MoE layer as much as has one.
    expect(shareExperts(question(8, [helper("h", 7, 0.2)], { gap: { begin: 2, end: 20 } }))?.layers).toEqual({ begin: 2, end: 4 });
  });
});
