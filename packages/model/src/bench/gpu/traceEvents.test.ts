import { describe, expect, it } from "vitest";
import { traceFile } from "./traceEvents.ts";

const slices = [
  { label: "gate, up", shader: "experts/few.wgsl", begin: 0, end: 100_000, bytes: 264_000_000, flops: 528_000_000 },
  { label: "down", shader: "", begin: 101_000, end: 101_000, bytes: 0, flops: 0 },
];
const file = traceFile(
  [
    { name: "layer-decode", arithmetic: "plain", slices },
    { name: "layer-prefill", arithmetic: "subgroup matrices", slices },
  ],
  { adapter: "a GPU" },
);

describe("traceFile()", () => {
  it("is the JSON object form of the trace event format", () => {
    const copy: unknown = JSON.parse(JSON.stringify(file));
    expect(copy).toEqual(file);
    expect(file.displayTimeUnit).toBe("ns");
    for (const event of file.traceEvents) {
      expect(typeof event.name).toBe("string");
      expect(["X", "M"]).toContain(event.ph);
      expect(Number.isInteger(event.pid) && Number.isInteger(event.tid)).toBe(true);
      if (event.ph === "M") continue;
      expect(event.ts).toBeGreaterThanOrEqual(0);
      expect(event.dur).toBeGreaterThanOrEqual(0);
      expect(Object.values(event.args).filter(Number.isFinite)).toHaveLength(4);
    }
  });

  it("has a slice for each dispatch, in microseconds, with what it reads and multiplies", () => {
    const complete = file.traceEvents.filter(({ ph }) => ph === "X");
    expect(complete).toHaveLength(4);
    expect(complete[0]).toEqual({
      name: "gate, up",
      cat: "dispatch",
      ph: "X",
      ts: 0,
      dur: 100,
      pid: 1,
      tid: 1,
      args: { shader: "experts/few.wgsl", bytes: 264_000_000, flops: 528_000_000, "GB/s": 2640, "GFLOP/s": 5280 },
    });
    expect(complete[1]).toMatchObject({ ts: 101, dur: 0, args: { "GB/s": 0, "GFLOP/s": 0 } });
  });

  it("names a process for each row", () => {
    const names = file.traceEvents.filter(({ name }) => name === "process_name");
    expect(names.map(({ pid, args }) => [pid, args])).toEqual([
      [1, { name: "layer-decode (plain)" }],
      [2, { name: "layer-prefill (subgroup matrices)" }],
    ]);
  });
});
