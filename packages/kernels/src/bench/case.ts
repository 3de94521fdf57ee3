/** What a timed kernel is made of. */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import type { Random } from "../testing/mod.ts";
import type { BenchShapes } from "./sizes.ts";

export type Keep = <B extends GPUBuffer>(buffer: B) => B;

export interface Prepared {
  readonly dispatches: readonly Dispatch[];
  /** Compares a sample of the outputs with the f64 reference, after the dispatches ran once. @throws MismatchError */
  readonly verify: () => Promise<void>;
  /** What a run reads and writes at least, where that is not the sum of the dispatches' own. */
  readonly bytes?: number;
  readonly flops?: number;
}

export interface BenchCase {
  readonly op: string;
  readonly name: string;
  readonly prepare: (gpu: GpuContext, keep: Keep, random: Random) => Promise<Prepared>;
}

/** `gpu` says which variants there are. */
export type BenchCases = (shapes: BenchShapes, gpu: GpuContext) => readonly BenchCase[];

/** Sums are f32 and up to 16384 terms long. */
export const TOLERANCE = { abs: 1e-6, rel: 1e-4 };

/** Rows whose results are compared: the first, the last, and some between. */
export function sampledRows(random: Random, rows: number): readonly number[] {
  return [0, rows - 1, ...Array.from({ length: 6 }, () => random.integer(rows))];
}

/** Columns `columns` of [rows, stride]. */
export function pick(values: ArrayLike<number>, rows: number, stride: number, columns: readonly number[]): Float64Array {
  return Float64Array.from({ length: rows * columns.length }, (_, i) => {
    const row = Math.floor(i / columns.length);
    return values[row * stride + (columns[i % columns.length] ?? 0)] ?? Number.NaN;
  });
}
