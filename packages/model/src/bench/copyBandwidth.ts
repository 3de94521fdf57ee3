/** Bytes per second that a plain copy from one buffer to another reads and writes: what this device's memory gives at the time of the run. */
import { GpuError, type GpuContext } from "@shoal/gpu";
import { median } from "./median.ts";

export interface CopyBandwidth {
  /** Read and written. */
  readonly bytesPerSecond: number;
  /** Of one buffer. */
  readonly bufferBytes: number;
}

/** Larger than the caches of current GPUs. */
const BUFFER_BYTES = 256 * 2 ** 20;
/** Software adapters run from the CPU's memory, and slowly. */
const SOFTWARE_BUFFER_BYTES = 32 * 2 ** 20;
const SMALLEST_BUFFER_BYTES = 2 ** 20;
/** A measurement that takes less is repeated with more copies: waiting alone takes 11 ms on Deno's wgpu. */
const MEASURED_MS = 100;
const MAX_COPIES = 1024;
const RUNS = 3;

/** @throws GpuError where not even small buffers can be had. */
export async function copyBandwidth(gpu: GpuContext): Promise<CopyBandwidth> {
  let size = Math.min(gpu.adapter.isSoftware ? SOFTWARE_BUFFER_BYTES : BUFFER_BYTES, gpu.limits.maxBufferSize);
  for (;;) {
    try {
      return await measure(gpu, size);
    } catch (error) {
      // The model may have left little room.
      if (!(error instanceof GpuError && error.name === "GpuOutOfMemoryError") || size <= SMALLEST_BUFFER_BYTES) throw error;
      size = Math.floor(size / 4096) * 1024;
    }
  }
}

async function measure(gpu: GpuContext, size: number): Promise<CopyBandwidth> {
  const buffers: GPUBuffer[] = [];
  try {
    return await gpu.scoped("measure a copy", async () => {
      const from = gpu.buffer({ label: "copied", size, kind: "scratch" });
      buffers.push(from);
      const to = gpu.buffer({ label: "copy", size, kind: "scratch" });
      buffers.push(to);
      const time = async (copies: number): Promise<number> => {
        const begin = performance.now();
        gpu.submit(Array.from({ length: copies }, () => ({ copy: { from, fromOffset: 0, to, toOffset: 0, size } })));
        await gpu.idle();
        return performance.now() - begin;
      };
      await time(1);
      let copies = 1;
      while (copies < MAX_COPIES && (await time(copies)) < MEASURED_MS) copies *= 2;
      const empty: number[] = [];
      const full: number[] = [];
      for (let i = 0; i < RUNS; i++) {
        empty.push(await time(0));
        full.push(await time(copies));
      }
      const ms = Math.max(median(full) - median(empty), 1e-3);
      return { bytesPerSecond: (2 * size * copies * 1000) / ms, bufferBytes: size };
    });
  } finally {
    for (const buffer of buffers) gpu.destroyBuffer(buffer);
  }
}
