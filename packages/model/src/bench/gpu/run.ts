/** A run of the suite: what its rows share, and how each of them ends in a figure, a reason to skip it, or a failure. */
import type { GpuContext } from "@shoal/gpu";
import { type Measurement, finishRow } from "./limit.ts";
import type { FailedRow, GpuCeilings, GpuRow, RowTimeline, SkipCode, SkippedRow, TimelineSlice } from "./result.ts";
import type { Arithmetic, GpuRowName } from "./rows.ts";
import { type DemoConfigs, type GpuBenchShapes, gpuBenchShapes } from "./shapes.ts";

export interface GpuBenchOptions {
  /** By default those of the device: `small` on software adapters. */
  readonly size: "full" | "small";
  readonly configs: DemoConfigs;
  /** Only these rows, besides the ceilings. */
  readonly only?: readonly GpuRowName[] | undefined;
  /** A fresh context of the device that is measured, which the suite closes. `subgroupMatrix` false: as on a device that has none. */
  readonly open: (wish: { readonly subgroupMatrix: boolean }) => Promise<GpuContext>;
  /** What is going on now. */
  readonly onPhase?: ((row: GpuRowName, what: string) => void) | undefined;
  /** Each row when it ends, with the limits known by then. */
  readonly onRow?: ((row: GpuRow) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What a row is before it is measured: by then `arithmetic` is what the device offers. */
export interface RowHead {
  readonly name: GpuRowName;
  readonly what: string;
  readonly arithmetic: Arithmetic;
}

/** What a row's work gives: the rest of it follows. */
export interface Measured extends Omit<Measurement, "name" | "what"> {
  readonly slices: readonly TimelineSlice[];
  readonly flopsPerSecond: Readonly<Record<Arithmetic, number>>;
}

export class Run {
  readonly shapes: GpuBenchShapes;
  readonly signal: AbortSignal | undefined;
  readonly timelines: RowTimeline[] = [];
  readonly #options: GpuBenchOptions;
  readonly #ended: (Measurement | SkippedRow | FailedRow)[] = [];
  #ceilings: GpuCeilings = {
    readBytesPerSecond: Number.NaN,
    copyBytesPerSecond: Number.NaN,
    dispatchMs: Number.NaN,
    flopsPerSecond: { plain: null, "subgroup matrices": null },
  };

  constructor(options: GpuBenchOptions) {
    this.#options = options;
    this.signal = options.signal;
    this.shapes = gpuBenchShapes(options.size, options.configs);
  }

  get ceilings(): GpuCeilings {
    return this.#ceilings;
  }

  /** With the limits of the whole run. */
  get rows(): readonly GpuRow[] {
    return this.#ended.map((row) => this.#finish(row));
  }

  wants(name: GpuRowName): boolean {
    return this.#options.only?.includes(name) ?? true;
  }

  open(wish: { readonly subgroupMatrix: boolean }): Promise<GpuContext> {
    this.signal?.throwIfAborted();
    return this.#options.open(wish);
  }

  phase(row: GpuRowName, what: string): void {
    this.signal?.throwIfAborted();
    this.#options.onPhase?.(row, what);
  }

  setBandwidth(ceilings: Omit<GpuCeilings, "flopsPerSecond">): void {
    this.#ceilings = { ...this.#ceilings, ...ceilings };
  }

  /** A rate that some kernel reached. */
  noteFlops(rates: Partial<Readonly<Record<Arithmetic, number>>>): void {
    const known = this.#ceilings.flopsPerSecond;
    const better = (arithmetic: Arithmetic): number | null => Math.max(known[arithmetic] ?? 0, rates[arithmetic] ?? 0) || null;
    const flopsPerSecond = { plain: better("plain"), "subgroup matrices": better("subgroup matrices") };
    this.#ceilings = { ...this.#ceilings, flopsPerSecond };
  }

  /**
   * Measures one row. Only an abort is thrown: whatever else goes wrong is the row's result.
   * @returns what its products ran on, undefined where it has no figure
   */
  async measure(head: RowHead, work: () => Promise<Measured>): Promise<Arithmetic | undefined> {
    try {
      const { slices, flopsPerSecond, ...measured } = await work();
      this.noteFlops(flopsPerSecond);
      const { arithmetic } = measured;
      if (slices.length > 0) this.timelines.push({ name: head.name, arithmetic, slices });
      this.#end({ ...head, ...measured });
      return arithmetic;
    } catch (error) {
      this.refuse(head, error);
      return undefined;
    }
  }

  /** Ends a row without a figure. @throws the error again if the run was aborted */
  refuse(head: RowHead, error: unknown): void {
    if (this.signal?.aborted === true) throw error;
    const name = error instanceof Error ? error.name : "Error";
    const message = error instanceof Error ? error.message : String(error);
    const code = SKIPPED[name];
    if (code === undefined) this.#end({ ...head, status: "failed", reason: { code: codeOf(error) ?? name, message } });
    else this.#end({ ...head, status: "skipped", reason: { code, message } });
  }

  #end(row: Measurement | SkippedRow | FailedRow): void {
    this.#ended.push(row);
    this.#options.onRow?.(this.#finish(row));
  }

  #finish(row: Measurement | SkippedRow | FailedRow): GpuRow {
    return "status" in row ? row : finishRow(row, this.#ceilings, this.#options.size === "full");
  }
}

/** Errors that tell of the device, not of a defect. */
const SKIPPED: Readonly<Record<string, SkipCode>> = {
  GpuOutOfMemoryError: "out-of-memory",
  AdapterLimitError: "adapter-limit",
  NoAdapterError: "no-engine",
};

function codeOf(error: unknown): string | undefined {
  return typeof error === "object" && error !== null && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

/** What a context could multiply many tokens with. */
export function offeredArithmetic(gpu: GpuContext): Arithmetic {
  return gpu.dialect.subgroupMatrix === undefined ? "plain" : "subgroup matrices";
}
