/** The suite as a whole, on one engine. Rows run one after the other, each with the device to itself. */
import { kernelRows } from "./kernelRows.ts";
import { layerRows } from "./layerRows.ts";
import { modelRows } from "./modelRows.ts";
import type { GpuBench, GpuRow, RowTimeline } from "./result.ts";
import { RATIO_TARGET } from "./rows.ts";
import { type GpuBenchOptions, Run } from "./run.ts";
import { type TinyModel, tinyRow } from "./tinyRow.ts";

/**
 * `16b-wgpu` is not measured here, since it takes another engine: `ratioRow` makes it of two results.
 * @returns the rows, and one step of each that the device could time dispatch by dispatch
 * @throws GpuError where not even the ceilings can be measured; the signal's reason
 */
export async function benchGpu(
  options: GpuBenchOptions & { readonly tiny: TinyModel },
): Promise<GpuBench & { readonly timelines: readonly RowTimeline[] }> {
  const run = new Run(options);
  await kernelRows(run);
  await layerRows(run);
  await modelRows(run);
  await tinyRow(run, options.tiny);
  return { size: options.size, ceilings: run.ceilings, rows: run.rows, timelines: run.timelines };
}

/** `16b-wgpu`: tokens a second of one engine as a share of another's. */
export function ratioRow(engine: string, other: GpuRow | undefined, own: GpuRow | undefined): GpuRow {
  const head = { name: "16b-wgpu", what: `16b-decode through ${engine}, as a share of this engine's`, arithmetic: "plain" } as const;
  if (!own || !other)
    return { ...head, status: "failed", reason: { code: "no-figure", message: "Cannot compare engines: '16b-decode' was not measured" } };
  if (own.status !== "ok") return { ...own, ...head };
  if (other.status !== "ok") return { ...other, ...head };
  const value = other.value / own.value;
  const target = own.target === null ? null : RATIO_TARGET;
  return {
    ...head,
    status: "ok",
    value,
    unit: "ratio",
    samples: other.samples.map((sample) => sample / own.value),
    target,
    pass: target === null ? null : value >= target,
    limit: null,
    shareOfLimit: null,
    work: null,
    encodeMs: other.encodeMs,
    gpuTimes: other.gpuTimes,
    verified: other.verified,
  };
}
