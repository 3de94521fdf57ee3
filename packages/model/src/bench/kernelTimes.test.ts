import type { Dispatch, DispatchTiming } from "@shoal/gpu";
import { describe, expect, it } from "vitest";
import { byLabel } from "./kernelTimes.ts";
import { median } from "./median.ts";

const pipeline = {} as GPUComputePipeline;
const bindGroup = {} as GPUBindGroup;

function dispatch(label: string, bytes?: number): Dispatch {
  return { label, pipeline, bindGroup, grid: [1, 1, 1], flops: 7, ...(bytes !== undefined && { bytes }) };
}

function timings(...parts: readonly (readonly [label: string, nanoseconds: number])[]): DispatchTiming[] {
  return parts.map(([label, end]) => ({ dispatch: dispatch(label, 10), begin: 0, end }));
}

describe("byLabel()", () => {
  it("sums dispatches of one label, the longest first, with their shares", () => {
    const { gpuMs, kernels } = byLabel([timings(["a", 1e6], ["b", 5e6], ["a", 2e6])]);
    expect(gpuMs).toBeCloseTo(8);
    expect(kernels).toEqual([
      { label: "b", shader: "", dispatches: 1, gpuMs: 5, bytes: 10, flops: 7, share: 0.625 },
      { label: "a", shader: "", dispatches: 2, gpuMs: 3, bytes: 20, flops: 14, share: 0.375 },
    ]);
  });

  it("takes each dispatch's median over the runs", () => {
    expect(byLabel([timings(["a", 1e6]), timings(["a", 90e6]), timings(["a", 3e6])]).gpuMs).toBe(3);
  });

  it("counts a timer that ran backwards as nothing, and gives no share of nothing", () => {
    expect(byLabel([timings(["a", -5])]).kernels).toEqual([
      { label: "a", shader: "", dispatches: 1, gpuMs: 0, bytes: 10, flops: 7, share: 0 },
    ]);
  });
});

describe("median()", () => {
  it("is the middle one, or the mean of the two", () => {
    expect([median([3, 1, 2]), median([4, 1, 2, 3]), median([])]).toEqual([2, 2.5, Number.NaN]);
  });
});
