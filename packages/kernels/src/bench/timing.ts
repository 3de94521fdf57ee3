/** How long dispatches take, from outside: many after one another, less what an empty submit takes (11 ms on Deno's wgpu, which sleeps between polls). */
import type { Command, Dispatch, GpuContext } from "@shoal/gpu";

const MEASURED_MS = 20;
const RUNS = 3;
const MAX_REPEATS = 16_384;
/** Of load before anything is timed on a GPU: its clocks rise under load. */
const WARM_MS = 300;

/** Commands of a submit, where one run has fewer. */
const SUBMIT_COMMANDS = 32;

/**
 * Submits `runs` of the commands in slices: the device works on the first while later ones are encoded, as on the steps of a model that decodes. In one submit it would wait for
 * all of them, and what was timed would be its own time and the CPU's together (Dawn: 7.5 us a dispatch).
 */
export function submitRuns(gpu: Pick<GpuContext, "submit">, commands: readonly Command[], runs: number): void {
  const most = Math.max(1, Math.floor(SUBMIT_COMMANDS / Math.max(1, commands.length)));
  const slice = Array.from({ length: Math.min(most, runs) }, () => commands).flat();
  for (let left = runs; left >= most; left -= most) gpu.submit(slice);
  if (runs % most > 0 || runs === 0) gpu.submit(slice.slice(0, (runs % most) * commands.length));
}

/**
 * How many runs take at least `ms`: more and more of them are timed until they do, since what one takes by itself says little where a wait ends a few milliseconds late.
 * @param timed milliseconds of so many runs
 */
export async function repeatsFor(timed: (repeats: number) => Promise<number>, { ms, most }: { ms: number; most: number }): Promise<number> {
  let repeats = 1;
  for (;;) {
    const taken = await timed(repeats);
    if (taken >= ms || repeats >= most) return repeats;
    const wanted = Math.ceil((1.5 * ms * repeats) / Math.max(taken, 0.1));
    repeats = Math.min(most, Math.max(repeats * 2, wanted));
  }
}

/**
 * Milliseconds of one run of `dispatches`.
 * @param warmMs of load before, on a GPU; less does where the GPU is under load already
 */
export async function timeDispatches(
  gpu: GpuContext,
  dispatches: readonly Dispatch[],
  signal?: AbortSignal,
  warmMs: number = WARM_MS,
): Promise<number> {
  const once = async (repeats: number): Promise<number> => {
    signal?.throwIfAborted();
    const begin = performance.now();
    submitRuns(gpu, dispatches, repeats);
    await gpu.idle();
    return performance.now() - begin;
  };
  const empty = median([await once(0), await once(0), await once(0), await once(0), await once(0)]);
  await once(1);
  const repeats = await repeatsFor(async (runs) => (await once(runs)) - empty, { ms: MEASURED_MS, most: MAX_REPEATS });
  const warm = performance.now() + (gpu.adapter.isSoftware ? 0 : warmMs);
  while (performance.now() < warm) await once(repeats);
  const samples: number[] = [];
  for (let i = 0; i < RUNS; i++) samples.push(((await once(repeats)) - empty) / repeats);
  return Math.max(median(samples), 1e-6);
}

function median(samples: readonly number[]): number {
  return samples.toSorted((a, b) => a - b)[samples.length >> 1] ?? 0;
}
