/** How long commands take on the device, from outside, and what each dispatch of them takes, from inside. */
import { type Command, type DispatchTiming, type GpuContext, dispatchesOf, profileCommands } from "@shoal/gpu";
import { repeatsFor, submitRuns } from "@shoal/kernels/bench";
import { type KernelTimes, byLabel } from "../kernelTimes.ts";
import { median } from "../median.ts";
import type { TimelineSlice } from "./result.ts";
import type { Arithmetic } from "./rows.ts";

const MOST_REPEATS = 2048;
const EMPTY_SUBMITS = 5;
/** Of load before anything is timed on a GPU: clocks rise under load, and from idle an H100 takes a quarter of a second to run three times as fast. */
const WARM_MS = 500;

/** Keeps the device busy with `commands` until its clocks have risen. A software adapter has none. */
export async function warmClocks(gpu: GpuContext, commands: readonly Command[], signal?: AbortSignal): Promise<void> {
  const end = performance.now() + (gpu.adapter.isSoftware ? 0 : WARM_MS);
  while (performance.now() < end) {
    signal?.throwIfAborted();
    const begin = performance.now();
    gpu.submit(commands);
    await gpu.idle();
    const each = Math.max(performance.now() - begin, 0.1);
    for (let i = 0; i < Math.min(64, 20 / each); i++) gpu.submit(commands);
  }
  await gpu.idle();
}

/** As `warmClocks`, by whole steps: the host's code for them is compiled meanwhile, too. */
export async function warmSteps(gpu: GpuContext, some: () => Promise<unknown>, signal?: AbortSignal): Promise<void> {
  const end = performance.now() + (gpu.adapter.isSoftware ? 0 : WARM_MS);
  while (performance.now() < end) {
    signal?.throwIfAborted();
    await some();
  }
}

export interface TimingOptions {
  readonly samples: number;
  /** At least as many of a sample's longer wait. */
  readonly submitMs: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Milliseconds of one run, each sample: what many runs, one after the other, take more than a quarter of them. So nothing counts that a wait takes by itself, be it to begin, or until
 * somebody looks again whether it is over.
 */
export async function timeCommands(
  gpu: GpuContext,
  commands: readonly Command[],
  { samples, submitMs, signal }: TimingOptions,
): Promise<readonly number[]> {
  const once = async (repeats: number): Promise<number> => {
    signal?.throwIfAborted();
    const begin = performance.now();
    submitRuns(gpu, commands, repeats);
    await gpu.idle();
    return performance.now() - begin;
  };
  const empties: number[] = [];
  for (let i = 0; i < EMPTY_SUBMITS; i++) empties.push(await once(0));
  const empty = median(empties);
  await once(1);
  await warmClocks(gpu, commands, signal);
  const repeats = await repeatsFor(async (runs) => (await once(runs)) - empty, { ms: submitMs, most: MOST_REPEATS });
  const some = repeats >> 2;
  const times: number[] = [];
  for (let i = 0; i < samples; i++) {
    const less = some === 0 ? empty : await once(some);
    times.push(Math.max(((await once(repeats)) - less) / (repeats - some), 1e-6));
  }
  return times;
}

export interface StepProfile {
  readonly gpuTimes: KernelTimes | null;
  /** Of the last run; empty where the device has no timestamp queries. */
  readonly slices: readonly TimelineSlice[];
  /** What its products ran on: subgroup matrices if any of its dispatches uses them. */
  readonly arithmetic: Arithmetic;
  /** Best operations a second of a dispatch long enough to tell; 0 where there is none. */
  readonly flopsPerSecond: Readonly<Record<Arithmetic, number>>;
}

/** Shorter dispatches are mostly launch. */
const TELLING_NS = 20_000;
/** Operations for a byte read: those that have fewer, as all that multiply one token, wait for memory, and tell nothing of how fast the device computes. */
const TELLING_INTENSITY = 8;

export async function profileStep(gpu: GpuContext, commands: readonly Command[], repeat: number): Promise<StepProfile> {
  const arithmetic = arithmeticOf(commands);
  if (!gpu.dialect.timestampQuery) return { gpuTimes: null, slices: [], arithmetic, flopsPerSecond: { plain: 0, "subgroup matrices": 0 } };
  const runs: (readonly DispatchTiming[])[] = [];
  await warmClocks(gpu, commands);
  for (let i = 0; i < repeat; i++) runs.push(await profileCommands(gpu, commands));
  const slices = (runs.at(-1) ?? []).map(({ dispatch, begin, end }) => ({
    label: dispatch.label,
    shader: dispatch.shader?.path ?? "",
    begin,
    end: Math.max(begin, end),
    bytes: dispatch.bytes ?? 0,
    flops: dispatch.flops ?? 0,
  }));
  const flopsPerSecond: Record<Arithmetic, number> = { plain: 0, "subgroup matrices": 0 };
  for (const [index, { dispatch }] of (runs[0] ?? []).entries()) {
    const ns = median(runs.map((run) => (run[index]?.end ?? 0) - (run[index]?.begin ?? 0)));
    const of = arithmeticOf([dispatch]);
    if (ns >= TELLING_NS && (dispatch.flops ?? 0) >= TELLING_INTENSITY * (dispatch.bytes ?? 0))
      flopsPerSecond[of] = Math.max(flopsPerSecond[of], ((dispatch.flops ?? 0) * 1e9) / ns);
  }
  return { gpuTimes: byLabel(runs), slices, arithmetic, flopsPerSecond };
}

function arithmeticOf(commands: readonly Command[]): Arithmetic {
  return dispatchesOf(commands).some(({ shader }) => shader?.subgroupMatrix === true) ? "subgroup matrices" : "plain";
}
