import { readFileSync } from "node:fs";
import { AdapterLimitError, GpuError } from "@shoal/gpu";
import { describe, expect, it } from "vitest";
import { BenchError } from "../errors.ts";
import type { GpuRow } from "./result.ts";
import { Run } from "./run.ts";
import { ratioRow } from "./suite.ts";

const config = (name: string): object =>
  JSON.parse(readFileSync(new URL(`../../../../../configs/${name}.json`, import.meta.url), "utf8")) as object;
const configs = { demo16B: config("config_16B"), demo671B: config("config_671B") };
const head = { name: "16b-decode", what: "a model", arithmetic: "plain" } as const;
const measured = {
  stepMs: [2],
  work: { tokens: 1, bytes: 3e9, flops: 1, dispatches: 1 },
  encodeMs: 1,
  gpuTimes: null,
  verified: "it",
  slices: [],
  arithmetic: "plain" as const,
  flopsPerSecond: { plain: 5e12, "subgroup matrices": 0 },
};

function newRun(signal?: AbortSignal): { readonly run: Run; readonly told: GpuRow[] } {
  const told: GpuRow[] = [];
  const open = () => Promise.reject(new Error("not needed"));
  return { told, run: new Run({ size: "full", configs, only: ["16b-decode"], open, onRow: (row) => told.push(row), signal }) };
}

describe("Run", () => {
  it("tells each row when it ends, and gives all with the limits of the whole run", async () => {
    const { run, told } = newRun();
    run.setBandwidth({ readBytesPerSecond: 3e12, copyBytesPerSecond: 1, dispatchMs: 0 });
    await run.measure(head, () => Promise.resolve(measured));
    run.noteFlops({ plain: 1e9 });
    expect(told).toHaveLength(1);
    expect(told[0]).toMatchObject({ status: "ok", value: 500, target: 420, pass: true, limit: { by: "bytes" } });
    expect(run.ceilings.flopsPerSecond).toEqual({ plain: 5e12, "subgroup matrices": null });
    expect(run.rows).toEqual(told);
    expect([run.wants("16b-decode"), run.wants("head")]).toEqual([true, false]);
  });

  it("skips what the device cannot run, and fails what is wrong", () => {
    const { run } = newRun();
    run.refuse(head, new GpuError("GpuOutOfMemoryError", "Cannot: too large"));
    run.refuse(head, new AdapterLimitError("load", "maxBufferSize", 2, 1));
    run.refuse(head, new BenchError("wrong-answer", "Cannot measure: wrong"));
    run.refuse(head, new TypeError("oh"));
    expect(run.rows.map((row) => (row.status === "ok" ? "" : [row.status, row.reason.code]))).toEqual([
      ["skipped", "out-of-memory"],
      ["skipped", "adapter-limit"],
      ["failed", "wrong-answer"],
      ["failed", "TypeError"],
    ]);
  });

  it("ends by the signal's reason when it is aborted", async () => {
    const controller = new AbortController();
    const { run } = newRun(controller.signal);
    controller.abort(new Error("stopped"));
    expect(() => run.phase("down", "timing")).toThrow("stopped");
    await expect(run.measure(head, () => Promise.reject(new Error("stopped")))).rejects.toThrow("stopped");
    expect(run.rows).toEqual([]);
  });
});

describe("ratioRow()", () => {
  it("is a share of this engine's figure, or says why there is none", async () => {
    const { run } = newRun();
    run.setBandwidth({ readBytesPerSecond: 3e12, copyBytesPerSecond: 1, dispatchMs: 0 });
    await run.measure(head, () => Promise.resolve(measured));
    await run.measure(head, () => Promise.resolve({ ...measured, stepMs: [4] }));
    run.refuse(head, new BenchError("wrong-answer", "Cannot measure: wrong"));
    const [own, slower, wrong] = run.rows;
    expect(ratioRow("an engine", slower, own)).toMatchObject({
      name: "16b-wgpu",
      status: "ok",
      value: 0.5,
      target: 0.7,
      pass: false,
      limit: null,
    });
    expect(ratioRow("an engine", own, own)).toMatchObject({ value: 1, target: 0.7, pass: true });
    expect(ratioRow("an engine", wrong, own)).toMatchObject({ name: "16b-wgpu", status: "failed", reason: { code: "wrong-answer" } });
    expect(ratioRow("an engine", undefined, own)).toMatchObject({ status: "failed", reason: { code: "no-figure" } });
  });
});
