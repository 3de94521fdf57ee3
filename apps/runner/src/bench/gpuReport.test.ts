import { describe, expect, it } from "vitest";
import { type GpuReport, gpuTable, rowLine } from "./gpuReport.ts";

const kernel = { label: "head", shader: "matvec/matvec.wgsl", dispatches: 1, gpuMs: 0.2, share: 1, bytes: 500_000_000, flops: 1e9 };

const report: GpuReport = {
  format: 1,
  suite: "gpu",
  version: "0.1.0",
  date: "2026-01-02T03:04:05.000Z",
  machine: { deno: "2.9.6", system: "linux", architecture: "x86_64", cpus: 2 },
  engine: "dawn",
  adapter: { vendor: "v", architecture: "a", device: "d", description: "a GPU", isSoftware: false },
  dialect: { engine: "dawn", subgroups: "directive", subgroupSize: 32, f16: false, timestampQuery: true, fp8Decode: "unpack" },
  size: "full",
  ceilings: {
    readBytesPerSecond: 2.95e12,
    copyBytesPerSecond: 3e12,
    dispatchMs: 0.005,
    flopsPerSecond: { plain: 2e13, "subgroup matrices": null },
  },
  rows: [
    {
      name: "16b-decode",
      what: "the 16B model",
      arithmetic: "plain",
      status: "ok",
      value: 350,
      unit: "tokens/s",
      samples: [349, 350, 351],
      target: 420,
      pass: false,
      limit: { by: "dispatches", value: 660, ms: { bytes: 0.9, flops: 0.25, dispatches: 1.5 } },
      shareOfLimit: 0.53,
      work: { tokens: 1, bytes: 2.67e9, flops: 5e9, dispatches: 300 },
      encodeMs: 0.5,
      gpuTimes: { gpuMs: 0.2, kernels: [kernel] },
      verified: "12 rows of logits",
    },
    {
      name: "layer-prefill",
      what: "one layer",
      arithmetic: "subgroup matrices",
      status: "skipped",
      reason: { code: "out-of-memory", message: "Cannot take 12.0 GB of the device's memory" },
    },
  ],
};

describe("gpuTable()", () => {
  it("gives each row its figure, target, limit and reason", () => {
    const table = gpuTable(report);
    expect(table).toMatch(/16b-decode +350 tokens\/s +420 tokens\/s +missed +660 tokens\/s +53 % +dispatches \(ms: bytes 0\.900/);
    expect(table).toMatch(/layer-prefill \(subgroup matrices\) +skipped .*out-of-memory: Cannot take 12\.0 GB/);
    expect(table).toMatch(/ {2}head +1 +0\.2000 +100 % +2,500 GB\/s +85 % +5\.00 TFLOP\/s/);
    for (const part of ["2,950 GB/s", "5.00 us each", "20.0 TFLOP/s plain, none on subgroup matrices", "12 rows of logits"])
      expect(table).toContain(part);
  });

  it("says that small shapes mean little", () => {
    expect(gpuTable({ ...report, size: "small", rows: [] })).toContain("small ones: figures mean little, and have no targets");
  });
});

describe("rowLine()", () => {
  it("is one line", () => {
    expect(report.rows.map(rowLine)).toEqual([
      "16b-decode: 350 tokens/s, target 420 tokens/s: missed, 53 % of what dispatches allow",
      "layer-prefill (subgroup matrices): skipped (out-of-memory): Cannot take 12.0 GB of the device's memory",
    ]);
  });
});
