/** Three numbers that say what will be slow on a device. Takes about a second on a software adapter. */
import type { GpuContext } from "./context.ts";

/** What a device does in a given time. */
export interface DeviceTimes {
  /** Until 16 bytes are back, on an idle device. */
  readonly readbackMs: number;
  /** From host to device, bytes a second. */
  readonly uploadBytesPerSecond: number;
  /** Read and written by a copy on the device, bytes a second. */
  readonly copyBytesPerSecond: number;
}

const READS = 5;
const UPLOAD_BYTES = 16 * 2 ** 20;
const COPY_BYTES = 32 * 2 ** 20;
const COPIES = 4;

export async function measureDevice(gpu: GpuContext): Promise<DeviceTimes> {
  const size = Math.min(COPY_BYTES, gpu.limits.maxBufferSize);
  const from = gpu.buffer({ label: "measured from", size, kind: "scratch" });
  const to = gpu.buffer({ label: "measured to", size, kind: "scratch" });
  try {
    await gpu.read(from, 0, 16);
    const reads: number[] = [];
    for (let i = 0; i < READS; i++) reads.push(await milliseconds(async () => void (await gpu.read(from, 0, 16))));
    const [readbackMs = 0] = reads.sort((a, b) => a - b).slice(Math.floor(READS / 2));

    const data = new Uint8Array(Math.min(UPLOAD_BYTES, size));
    const finish = async (): Promise<void> => void (await gpu.read(to, 0, 16));
    const uploadMs = await milliseconds(async () => {
      gpu.write(from, 0, data);
      await finish();
    });
    const copies = Array.from({ length: COPIES }, () => ({ copy: { from, fromOffset: 0, to, toOffset: 0, size } }));
    gpu.submit(copies);
    await finish();
    const copyMs = await milliseconds(async () => {
      gpu.submit(copies);
      await finish();
    });
    const rate = (bytes: number, ms: number): number => (bytes / Math.max(ms - readbackMs, 0.01)) * 1000;
    return {
      readbackMs,
      uploadBytesPerSecond: rate(data.byteLength, uploadMs),
      // Every byte is read and written.
      copyBytesPerSecond: rate(2 * COPIES * size, copyMs),
    };
  } finally {
    gpu.destroyBuffer(from);
    gpu.destroyBuffer(to);
  }
}

async function milliseconds(work: () => Promise<void>): Promise<number> {
  const begin = performance.now();
  await work();
  return performance.now() - begin;
}
