/** What a measured piece of work is made of. Its buffers are made once, then it is recorded with one variant after the other. */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import type { Keep } from "../bench/case.ts";
import type { Random } from "../testing/mod.ts";

export interface TuningCase {
  /** The folder of the kernel, for coverage. */
  readonly op: string;
  readonly name: string;
  readonly prepare: (gpu: GpuContext, keep: Keep, random: Random) => Promise<PreparedCase>;
}

export interface PreparedCase {
  /** The dispatches with the variants that are chosen now. */
  readonly record: () => Promise<readonly Dispatch[]>;
  /** How often they do the work, each time with other weights: what caches hold is no measure of a model. */
  readonly rounds: number;
  /** What they write: spoiled before each verification. */
  readonly outputs: readonly GPUBuffer[];
  /** Compares a sample of the outputs with the f64 reference, after the dispatches ran once. @throws MismatchError */
  readonly verify: () => Promise<void>;
}

/** A broken variant is wrong by far more. How exact each must be its contract suite says. */
export const TOLERANCE = { abs: 1e-5, rel: 1e-3 };

/** More than caches hold. */
const READ_BYTES = 256 * 2 ** 20;

/** How many copies of something make caches useless. */
export function roundsFor(gpu: GpuContext, bytes: number): number {
  return gpu.adapter.isSoftware ? 1 : Math.max(1, Math.round(READ_BYTES / bytes));
}

export function countOf(tokens: number): string {
  return `${tokens} ${tokens === 1 ? "token" : "tokens"}`;
}
