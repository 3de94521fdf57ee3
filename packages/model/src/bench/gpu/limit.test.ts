import { describe, expect, it } from "vitest";
import { type Measurement, finishRow } from "./limit.ts";

const ceilings = {
  readBytesPerSecond: 3e12,
  copyBytesPerSecond: 3e12,
  dispatchMs: 0.005,
  flopsPerSecond: { plain: 2e13, "subgroup matrices": 6e13 },
};

const measurement: Measurement = {
  name: "16b-decode-32",
  what: "a model",
  arithmetic: "plain",
  stepMs: [11, 10, 9],
  work: { tokens: 32, bytes: 12e9, flops: 1e11, dispatches: 300 },
  encodeMs: 1,
  gpuTimes: null,
  verified: "it",
};

describe("finishRow()", () => {
  it("gives tokens a second, and the share of what bytes allow", () => {
    const row = finishRow(measurement, ceilings, true);
    expect(row).toMatchObject({ status: "ok", value: 3200, unit: "tokens/s", target: 3500, pass: false });
    expect(row.limit).toEqual({ by: "flops", value: 6400, ms: { bytes: 4, flops: 5, dispatches: 1.5 } });
    expect(row.shareOfLimit).toBeCloseTo(0.5);
  });

  it("gives milliseconds, of which less is better; subgroup matrices have their own target and rate", () => {
    const layer = { ...measurement, name: "layer-prefill", work: { tokens: 512, bytes: 12e9, flops: 6e11, dispatches: 16 } } as const;
    const row = finishRow({ ...layer, arithmetic: "subgroup matrices" }, ceilings, true);
    expect(row).toMatchObject({ value: 10, unit: "ms", target: 12, pass: true, limit: { by: "flops", value: 10 }, shareOfLimit: 1 });
    expect(finishRow(layer, ceilings, true)).toMatchObject({ target: null, pass: null, limit: { value: 30 }, shareOfLimit: 3 });
  });

  it("gives a kernel's rate with a target that is a share of a plain read", () => {
    const work = { tokens: 1, bytes: 270e6, flops: 1, dispatches: 1 };
    const row = finishRow({ ...measurement, name: "gate-up", stepMs: [0.1], work }, ceilings, true);
    expect(row).toMatchObject({ value: 2700, unit: "GB/s", pass: true, limit: { by: "bytes", value: 3000 } });
    expect(row.target).toBeCloseTo(2550);
    expect(row.shareOfLimit).toBeCloseTo(0.9);
  });

  it("has no targets for small shapes, and no limit by operations whose rate is unknown", () => {
    const unknown = { ...ceilings, flopsPerSecond: { plain: null, "subgroup matrices": null } };
    expect(finishRow(measurement, unknown, false)).toMatchObject({ target: null, pass: null, limit: { by: "bytes", ms: { flops: null } } });
  });
});
