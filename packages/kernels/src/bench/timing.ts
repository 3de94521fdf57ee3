/** How long dispatches take, from outside: many in one submit, less what an empty submit takes (11 ms on Deno's wgpu, which sleeps between polls). */
import type { Dispatch, GpuContext } from "@shoal/gpu";

const MEASURED_MS = 20;
const RUNS = 3;
const MAX_REPEATS = 16_384;
/** Of load before anything is timed on a GPU: its clocks rise under load. */
const WARM_MS = 300;

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
    const commands = Array.from({ length: repeats }, () => dispatches).flat();
    const begin = performance.now();
    gpu.submit(commands);
    await gpu.idle();
    return performance.now() - begin;
  };
  const empty = median([await once(0), await once(0), await once(0), await once(0), await once(0)]);
  await once(1);
  let repeats = 1;
  for (;;) {
    const ms = (await once(repeats)) - empty;
    if (ms >= MEASURED_MS || repeats >= MAX_REPEATS) break;
    const wanted = Math.ceil((1.5 * MEASURED_MS * repeats) / Math.max(ms, 0.1));
    repeats = Math.min(MAX_REPEATS, Math.max(repeats * 2, wanted));
  }
  const warm = performance.now() + (gpu.adapter.isSoftware ? 0 : warmMs);
  while (performance.now() < warm) await once(repeats);
  const samples: number[] = [];
  for (let i = 0; i < RUNS; i++) samples.push(((await once(repeats)) - empty) / repeats);
  return Math.max(median(samples), 1e-6);
}

function median(samples: readonly number[]): number {
  return samples.toSorted((a, b) => a - b)[samples.length >> 1] ?? 0;
}
