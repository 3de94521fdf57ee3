/** What this device's memory gives at the time of the run: the kernels' bench copies a buffer, and reads one, with plain kernels. */
import { GpuError, type GpuContext } from "@shoal/gpu";
import { type BenchSize, benchKernels } from "@shoal/kernels/bench";

export interface Bandwidth {
  /** Read and written by a copy. */
  readonly copyBytesPerSecond: number;
  readonly readBytesPerSecond: number;
  /** Size of the buffer that is read. Small ones lie in the caches of large GPUs. */
  readonly bufferBytes: number;
}

/** @throws GpuError where not even small buffers can be had. */
export async function measureBandwidth(gpu: GpuContext, signal?: AbortSignal): Promise<Bandwidth> {
  if (gpu.adapter.isSoftware) return measure(gpu, "small", signal);
  try {
    return await measure(gpu, "full", signal);
  } catch (error) {
    // The model may have left little room.
    if (!(error instanceof GpuError && error.name === "GpuOutOfMemoryError")) throw error;
    return measure(gpu, "small", signal);
  }
}

async function measure(gpu: GpuContext, size: BenchSize, signal: AbortSignal | undefined): Promise<Bandwidth> {
  const results = await benchKernels(gpu, { size, ops: ["copy", "read"], ...(signal && { signal }) });
  const of = (op: string) => results.find((result) => result.op === op);
  const rate = (op: string): number => (of(op)?.gbPerS ?? 0) * 1e9;
  return { copyBytesPerSecond: rate("copy"), readBytesPerSecond: rate("read"), bufferBytes: of("read")?.bytes ?? 0 };
}
