/** What a measured piece of work is made of. Its buffers are made once, then it is recorded with one variant after the other. */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import type { Keep } from "../bench/case.ts";
import type { Random } from "../testing/mod.ts";

export interface TuningCase {
  /** The folder of the kernel, for coverage. */
  readonly op: string;
  readonly name: string;
  /** Only the variants of `op` are tried, whose folder begins the operation's key: what runs in their place has cases of its own, where more of the time is its own. */
  readonly alone?: boolean;
  readonly prepare: (gpu: GpuContext, keep: Keep, random: Random) => Promise<PreparedCase>;
}

export interface PreparedCase {
  /** The dispatches with the variants that are chosen now. */
  readonly record: () => Promise<readonly Dispatch[]>;
  /** How often they do the work, each time with other weights: what caches hold is no measure of a model. */
  readonly rounds: number;
  /** What they write: spoiled before each verification. */
  readonly outputs: readonly GPUBuffer[];
  /**
   * What they read and change, for a sum is added to what there was: as it is before them, written before each verification. Timed runs work on what the one before left, as layers do, since
   * copying it back between them would be timed as well; so what it holds must not decide how long they take.
   */
  readonly changed?: readonly Changed[];
  /** Compares a sample of the outputs with the f64 reference, after the dispatches ran once. @throws MismatchError */
  readonly verify: () => Promise<void>;
}

export interface Changed {
  readonly buffer: GPUBuffer;
  readonly before: ArrayBufferView<ArrayBuffer>;
}

/** A broken variant is wrong by far more. How exact each must be its contract suite says. */
export const TOLERANCE = { abs: 1e-5, rel: 1e-3 };

/** Of norms. */
export const EPSILON = 1e-6;

/** Of scores whose order decides, relative: below, sums in f32 may turn it. */
export const SURE = 1e-4;

/** More than caches hold. */
const READ_BYTES = 256 * 2 ** 20;

/** How many copies of something make caches useless. */
export function roundsFor(gpu: GpuContext, bytes: number): number {
  return gpu.adapter.isSoftware ? 1 : Math.max(1, Math.round(READ_BYTES / bytes));
}

export function countOf(tokens: number): string {
  return `${tokens} ${tokens === 1 ? "token" : "tokens"}`;
}
