/** What memory gives (shaders/bench/): a copy, and a read. Nothing but benches runs them. */
import type { Dispatch, GpuContext } from "@shoal/gpu";

const VECTOR_BYTES = 16;
/** Enough to fill a large GPU several times over. */
const MAX_WORKGROUPS = 8192;

function workgroups(bytes: number): number {
  return Math.max(1, Math.min(MAX_WORKGROUPS, Math.ceil(bytes / VECTOR_BYTES / 256)));
}

/** `bytes` of `from` to `to`; a multiple of 16. */
export async function copyBytes(gpu: GpuContext, from: GPUBuffer, to: GPUBuffer, bytes: number): Promise<Dispatch> {
  const kernel = await gpu.kernel("bench/copy.wgsl", { VECTORS: bytes / VECTOR_BYTES }, "copy");
  return kernel.dispatch({ source: from, copied: to }, [workgroups(bytes), 1, 1], { bytes: 2 * bytes });
}

/** Words of `sums` that `sumWords` writes. */
export function sumCount(bytes: number): number {
  return workgroups(bytes);
}

/** Sums `bytes` of `from` as words; the total modulo 2^32 is the sum of the words of `sums`. */
export async function sumWords(gpu: GpuContext, from: GPUBuffer, sums: GPUBuffer, bytes: number): Promise<Dispatch> {
  const kernel = await gpu.kernel("bench/sum.wgsl", { VECTORS: bytes / VECTOR_BYTES }, "read");
  return kernel.dispatch({ source: from, sums }, [workgroups(bytes), 1, 1], { bytes });
}
