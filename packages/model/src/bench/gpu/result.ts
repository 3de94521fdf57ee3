/** What the suite gives. Field names are stable: others plot them. All of it can be cloned. */
import type { KernelTimes } from "../kernelTimes.ts";
import type { Arithmetic, GpuRowName, GpuUnit } from "./rows.ts";

export interface GpuBench {
  /** `full`: published shapes. `small`: for software adapters; its figures mean little and have no targets. */
  readonly size: "full" | "small";
  readonly ceilings: GpuCeilings;
  readonly rows: readonly GpuRow[];
}

/** The best that this device did in this run. */
export interface GpuCeilings {
  readonly readBytesPerSecond: number;
  /** Read and written. */
  readonly copyBytesPerSecond: number;
  /** From one of the smallest dispatches to the next that waits for it. */
  readonly dispatchMs: number;
  /** Of any kernel of this run; null where none was measured. */
  readonly flopsPerSecond: Readonly<Record<Arithmetic, number | null>>;
}

export type GpuRow = MeasuredRow | SkippedRow | FailedRow;

interface RowHead {
  readonly name: GpuRowName;
  /** What it ran on: shapes, formats, tokens. */
  readonly what: string;
  readonly arithmetic: Arithmetic;
}

export interface MeasuredRow extends RowHead {
  readonly status: "ok";
  /** Median of the samples. */
  readonly value: number;
  readonly unit: GpuUnit;
  readonly samples: readonly number[];
  /** In the row's unit; null where there is none for such a device or arithmetic. */
  readonly target: number | null;
  readonly pass: boolean | null;
  /** Null for a ratio. */
  readonly limit: GpuLimit | null;
  /** Of the limit, from 0 to 1. */
  readonly shareOfLimit: number | null;
  /** What one step does; null for a ratio. */
  readonly work: StepWork | null;
  /** CPU time to encode a step into a command buffer; null for kernels by themselves. */
  readonly encodeMs: number | null;
  /** Null where the device has no timestamp queries. */
  readonly gpuTimes: KernelTimes | null;
  /** What was compared before it was timed. */
  readonly verified: string;
}

/** There is no figure because this device cannot run it. */
export interface SkippedRow extends RowHead {
  readonly status: "skipped";
  readonly reason: { readonly code: SkipCode; readonly message: string };
}

/** There is no figure because something is wrong. */
export interface FailedRow extends RowHead {
  readonly status: "failed";
  readonly reason: { readonly code: string; readonly message: string };
}

export type SkipCode = "out-of-memory" | "adapter-limit" | "no-engine";

/** The least time that a step can take on this device, and what sets it. */
export interface GpuLimit {
  readonly by: "bytes" | "flops" | "dispatches";
  /** In the row's unit. */
  readonly value: number;
  /** By bytes at the rate of a plain read, by operations at the best rate of this run, by dispatches that wait for one another. */
  readonly ms: { readonly bytes: number; readonly flops: number | null; readonly dispatches: number };
}

export interface StepWork {
  readonly tokens: number;
  /** Read at least: each weight that the step uses once, the experts that were chosen, and the cached positions. */
  readonly bytes: number;
  readonly flops: number;
  readonly dispatches: number;
}

/** One dispatch of a step, timed in a compute pass of its own. */
export interface TimelineSlice {
  readonly label: string;
  /** The file under `shaders/` that it runs. */
  readonly shader: string;
  /** Nanoseconds since the step began. */
  readonly begin: number;
  readonly end: number;
  readonly bytes: number;
  readonly flops: number;
}

/** One step of a row, for a trace. */
export interface RowTimeline {
  readonly name: GpuRowName;
  readonly arithmetic: Arithmetic;
  readonly slices: readonly TimelineSlice[];
}
