/** How a time becomes a row: its value in the row's unit, the device's limit for the same work, and whether the target was met. Pure. */
import { median } from "../median.ts";
import type { GpuCeilings, GpuLimit, MeasuredRow, StepWork } from "./result.ts";
import { type Arithmetic, type GpuRowName, type GpuUnit, GPU_ROW_SPECS } from "./rows.ts";

/** What a row's measurement gives. */
export interface Measurement extends Pick<MeasuredRow, "name" | "what" | "arithmetic" | "encodeMs" | "gpuTimes" | "verified"> {
  /** Milliseconds of one step, each. */
  readonly stepMs: readonly number[];
  readonly work: StepWork;
}

export function limitOf(work: StepWork, arithmetic: Arithmetic, unit: GpuUnit, ceilings: GpuCeilings): GpuLimit {
  const flopRate = flopRateOf(ceilings, arithmetic);
  const ms = {
    bytes: (work.bytes * 1000) / ceilings.readBytesPerSecond,
    flops: flopRate === null ? null : (work.flops * 1000) / flopRate,
    dispatches: work.dispatches * ceilings.dispatchMs,
  };
  const least = Math.max(ms.bytes, ms.flops ?? 0, ms.dispatches);
  const by = least === ms.bytes ? "bytes" : least === ms.flops ? "flops" : "dispatches";
  return { by, value: inUnit(least, work, unit), ms };
}

/** Subgroup matrices do not take the plain arithmetic away. */
function flopRateOf({ flopsPerSecond }: GpuCeilings, arithmetic: Arithmetic): number | null {
  const { plain } = flopsPerSecond;
  if (arithmetic === "plain") return plain;
  const best = Math.max(plain ?? 0, flopsPerSecond["subgroup matrices"] ?? 0);
  return best > 0 ? best : null;
}

export function inUnit(ms: number, { tokens, bytes }: StepWork, unit: GpuUnit): number {
  if (unit === "ms") return ms;
  return unit === "GB/s" ? bytes / ms / 1e6 : (tokens * 1000) / ms;
}

/** @param targets whether the row's shapes are those that targets are for */
export function finishRow(measurement: Measurement, ceilings: GpuCeilings, targets: boolean): MeasuredRow {
  const { stepMs, work, name, arithmetic, ...rest } = measurement;
  const { unit } = GPU_ROW_SPECS[name];
  const samples = stepMs.map((ms) => inUnit(ms, work, unit));
  const value = inUnit(median(stepMs), work, unit);
  const limit = limitOf(work, arithmetic, unit, ceilings);
  const target = targets ? targetOf(name, arithmetic, ceilings) : null;
  const moreIsBetter = unit !== "ms";
  const pass = target === null ? null : moreIsBetter ? value >= target : value <= target;
  const shareOfLimit = moreIsBetter ? value / limit.value : limit.value / value;
  return { ...rest, status: "ok", name, arithmetic, value, unit, samples, target, pass, limit, shareOfLimit, work };
}

function targetOf(name: GpuRowName, arithmetic: Arithmetic, { readBytesPerSecond }: GpuCeilings): number | null {
  const spec = GPU_ROW_SPECS[name];
  if (!spec.target || (spec.arithmetic !== undefined && spec.arithmetic !== arithmetic)) return null;
  return "value" in spec.target ? spec.target.value : (spec.target.shareOfRead * readBytesPerSecond) / 1e9;
}
