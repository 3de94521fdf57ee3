/** Counts NaN codes in FP8 weights, once when they are loaded (shaders/fp8NanScan/fp8NanScan.wgsl), so that no product has to look for them. */
import type { BufferRange, Dispatch, GpuContext } from "@shoal/gpu";

const WORDS_PER_WORKGROUP = 256 * 16;
const MAX_WORKGROUPS = 65535;
/** From one counter to the next, in bytes: what bindings may begin at everywhere, so that one pipeline does for all. */
export const NAN_COUNTER_STRIDE = 256;

export interface Fp8NanScanSpec {
  /** Codes, little-endian, four to a word. */
  readonly buffer: BufferRange;
  /** Words to look at, from the range's start. */
  readonly words: number;
  /** A u32 every NAN_COUNTER_STRIDE bytes, never reset here. Another buffer than the codes'. */
  readonly counter: GPUBuffer;
  /** Which counter the number of NaN codes is added to. */
  readonly index: number;
  readonly label?: string;
}

export async function fp8NanScan(gpu: GpuContext, spec: Fp8NanScanSpec): Promise<readonly Dispatch[]> {
  const { buffer, words, counter, index, label = "fp8-nan-scan" } = spec;
  if (words === 0) return [];
  const kernel = await gpu.kernel("fp8NanScan/fp8NanScan.wgsl", {}, label);
  const codes = "buffer" in buffer ? { buffer: buffer.buffer, offset: buffer.offset } : { buffer, offset: 0 };
  const buffers = { codes: { ...codes, size: words * 4 }, counter: { buffer: counter, offset: index * NAN_COUNTER_STRIDE, size: 4 } };
  const groups = Math.min(Math.ceil(words / WORDS_PER_WORKGROUP), MAX_WORKGROUPS);
  return [kernel.dispatch(buffers, [groups, 1, 1], { bytes: words * 4 }, label)];
}
