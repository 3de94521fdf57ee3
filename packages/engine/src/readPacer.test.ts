import { describe, expect, it } from "vitest";
import { ReadPacer } from "./readPacer.ts";

/** Runs a device whose steps take `stepMs` and whose readbacks take `readMs`, one batch behind. */
function settle(stepMs: number, readMs: number): number {
  const pacer = new ReadPacer();
  for (let i = 0; i < 40; i++) {
    const { steps } = pacer;
    pacer.record(steps, Math.max(steps * stepMs, readMs));
  }
  return pacer.steps;
}

describe("ReadPacer", () => {
  it("reads every token by itself when a step takes longer than a readback", () => {
    expect(settle(30, 11)).toBe(1);
    expect(settle(5, 0.3)).toBe(1);
  });

  it("grows until a batch takes as long as its readback", () => {
    expect(settle(5, 11)).toBe(2);
    expect(settle(1, 11)).toBeGreaterThanOrEqual(8);
    expect(settle(0.1, 11)).toBe(16);
  });

  it("is not misled by single batches that other work delays", () => {
    for (let delayed = 0; delayed < 14; delayed++) {
      const pacer = new ReadPacer();
      for (let i = 0; i < 60; i++) pacer.record(pacer.steps, Math.max(pacer.steps, 11) + (i === delayed || i === delayed + 5 ? 100 : 0));
      expect(pacer.steps).toBe(16);
    }
  });

  it("tries again, where other work disturbed the first trial", () => {
    const pacer = new ReadPacer();
    const sizes: number[] = [];
    for (let i = 0; i < 400; i++) {
      const { steps } = pacer;
      sizes.push(steps);
      pacer.record(steps, Math.max(steps, 11) + (i < 30 ? i * 20 : 0));
    }
    expect(sizes[20]).toBe(1);
    expect(pacer.steps).toBeGreaterThanOrEqual(8);
  });

  it("seldom tries what was no better", () => {
    const pacer = new ReadPacer();
    let doubled = 0;
    for (let i = 0; i < 2000; i++) {
      const { steps } = pacer;
      if (steps > 1) doubled++;
      pacer.record(steps, steps * 30);
    }
    expect(pacer.steps).toBe(1);
    expect(doubled).toBeLessThan(40);
  });

  it("does not grow beyond what flows", () => {
    expect(settle(1, 200)).toBe(1);
  });
});
