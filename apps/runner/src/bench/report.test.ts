import { describe, expect, it } from "vitest";
import { type KernelsReport, type QuickReport, kernelsTable, quickTable } from "./report.ts";

const head = {
  format: 1,
  version: "0.1.0",
  date: "2026-01-02T03:04:05.000Z",
  machine: { deno: "2.9.6", system: "linux", architecture: "x86_64", cpus: 2 },
  engine: "dawn",
  adapter: { vendor: "v", architecture: "a", device: "d", description: "a GPU", isSoftware: false },
  dialect: { engine: "dawn", subgroups: "none", subgroupSize: 0, f16: false, timestampQuery: false, fp8Decode: "unpack" },
} as const;

const throughput = {
  tokensPerSecond: 1234.5,
  samples: [1200, 1234.5, 1300],
  tokens: 64,
  step: { tokens: 1, dispatches: 68, bytes: 7_000_000, kvCacheBytes: 50_000, encodeMs: 0.25 },
  gpuTimes: null,
};

const quick: QuickReport = {
  ...head,
  suite: "quick",
  model: { name: "the model", layers: 6, parameters: 21_200_000, activeParameters: 6_400_000 },
  options: { mode: "w8a32", kv: "f16", promptTokens: 64, newTokens: 64, repeat: 3, chunkTokens: 256 },
  loadSeconds: 0.25,
  loadBytes: 23_362_272,
  answer: "Paris.",
  verification: { promptTokens: 9, comparedTokens: 8, nearTies: 0, greedyIds: [1, 2], knownAnswer: true },
  prefill: throughput,
  decode: { ...throughput, submitMs: 0.5, bytesPerSecond: 8.6e9, shareOfCopy: 0.5 },
  bandwidth: { copyBytesPerSecond: 17.2e9, readBytesPerSecond: 12e9, bufferBytes: 2 ** 24 },
  memory: { weights: 23_400_000, kvCache: 100_000, scratch: 0 },
};

describe("quickTable()", () => {
  it("says what was verified, how fast it is, and what a step costs", () => {
    const table = quickTable(quick);
    for (const part of [
      "a GPU through Dawn",
      '8 decoded tokens equal those of prefill, and are the answer expected: "Paris."',
      "23.4 MB in 0.250 s, 93.4 MB/s",
      "weights 23.4 MB, KV cache 100 kB",
      "1,235",
      "68, one submit",
      "50 % of what a plain copy moves",
    ])
      expect(table).toContain(part);
    expect(table).not.toContain("scratch");
  });

  it("says that kernels cannot be timed where the device has no timestamp queries", () => {
    expect(quickTable(quick)).toContain("GPU time of a decode step by kernel: unknown, this device has no timestamp queries");
  });

  it("lists kernels by name with their shares where it has", () => {
    const kernel = { label: "head", shader: "matvec/matvec.wgsl", dispatches: 1, gpuMs: 2, share: 1, bytes: 17_200_000, flops: 0 };
    const table = quickTable({ ...quick, decode: { ...quick.decode, gpuTimes: { gpuMs: 2, kernels: [kernel] } } });
    expect(table).toMatch(/head +1 +2\.000 +100 % +8\.60 GB\/s +50 %/);
  });
});

describe("kernelsTable()", () => {
  it("gives each kernel a line, and no arithmetic to what has none", () => {
    const result = { op: "copy", name: "copy a buffer", ms: 1.5, bytes: 1e9, gbPerS: 666.7, shareOfCopy: 1, flops: 0, gflops: 0 };
    const report: KernelsReport = { ...head, suite: "kernels", size: "full", results: [result] };
    expect(kernelsTable(report)).toMatch(/copy +copy a buffer +1\.50 +667 GB\/s +100 %\n/);
  });
});
