/** GPU time of every dispatch, by timestamp queries around a pass of its own each. */
import type { GpuContext } from "./context.ts";
import { GpuError } from "./errors.ts";
import type { Dispatch } from "./kernel.ts";
import { type Command, dispatchesOf, encodeCommands } from "./program.ts";

export interface DispatchTiming {
  readonly dispatch: Dispatch;
  /** Nanoseconds since the first dispatch began. */
  readonly begin: number;
  readonly end: number;
}

/** A query set holds at most 4096 (WebGPU's own limit), two a dispatch. */
const MAX_DISPATCHES = 2048;

/** Runs commands once, timed. @throws GpuError where the device has no timestamp-query. */
export async function profileCommands(gpu: GpuContext, commands: readonly Command[]): Promise<readonly DispatchTiming[]> {
  const dispatches = dispatchesOf(commands);
  if (!gpu.dialect.timestampQuery) throw new GpuError("GpuValidationError", "Cannot time dispatches: this device has no timestamp-query");
  if (dispatches.length > MAX_DISPATCHES)
    throw new GpuError("GpuValidationError", `Cannot time ${dispatches.length} dispatches, expected at most ${MAX_DISPATCHES}`);
  const count = dispatches.length * 2;
  const querySet = gpu.device.createQuerySet({ type: "timestamp", count });
  const resolved = gpu.buffer({ label: "timestamps", size: count * 8, kind: "scratch", usage: GPUBufferUsage.QUERY_RESOLVE });
  try {
    const encoder = gpu.device.createCommandEncoder();
    encodeCommands(encoder, commands, (_, index) => ({
      querySet,
      beginningOfPassWriteIndex: index * 2,
      endOfPassWriteIndex: index * 2 + 1,
    }));
    encoder.resolveQuerySet(querySet, 0, count, resolved, 0);
    gpu.queue.submit([encoder.finish()]);
    const times = new BigUint64Array(await gpu.read(resolved, 0, count * 8));
    const origin = times[0] ?? 0n;
    return dispatches.map((dispatch, index) => ({
      dispatch,
      begin: Number((times[index * 2] ?? 0n) - origin),
      end: Number((times[index * 2 + 1] ?? 0n) - origin),
    }));
  } finally {
    gpu.destroyBuffer(resolved);
    querySet.destroy();
  }
}
