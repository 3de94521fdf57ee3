import { copyBytes, sumCount, sumWords } from "../bandwidth/kernel.ts";
import { assertEqual } from "../testing/mod.ts";
import type { BenchCases } from "./case.ts";

const CHECKED_BYTES = 4096;

/** First of all: what the others are shares of. */
export const bandwidthCases: BenchCases = ({ copyBytes: wanted }) => [
  {
    op: "copy",
    name: "copy a buffer",
    prepare: async (gpu, keep, random) => {
      const bytes = Math.min(wanted, gpu.limits.maxStorageBufferBindingSize - (gpu.limits.maxStorageBufferBindingSize % CHECKED_BYTES));
      const from = keep(gpu.buffer({ label: "from", size: bytes, kind: "scratch" }));
      const to = keep(gpu.buffer({ label: "to", size: bytes, kind: "scratch" }));
      const words = Uint32Array.from({ length: CHECKED_BYTES / 4 }, () => random.integer(2 ** 32));
      gpu.write(from, bytes - CHECKED_BYTES, words);
      const verify = async (): Promise<void> =>
        assertEqual(new Uint32Array(await gpu.read(to, bytes - CHECKED_BYTES, CHECKED_BYTES)), words, "copy");
      return { dispatches: [await copyBytes(gpu, from, to, bytes)], verify };
    },
  },
  {
    op: "read",
    name: "read a buffer",
    prepare: async (gpu, keep, random) => {
      const bytes = Math.min(wanted, gpu.limits.maxStorageBufferBindingSize - (gpu.limits.maxStorageBufferBindingSize % CHECKED_BYTES));
      const from = keep(gpu.buffer({ label: "from", size: bytes, kind: "scratch" }));
      const sums = keep(gpu.buffer({ label: "sums", size: sumCount(bytes) * 4, kind: "scratch" }));
      const words = Uint32Array.from({ length: CHECKED_BYTES / 4 }, () => random.integer(2 ** 32));
      gpu.write(from, 0, words);
      gpu.write(from, bytes - CHECKED_BYTES, words);
      const add = (a: number, b: number): number => (a + b) >>> 0;
      const verify = async (): Promise<void> => {
        const parts = new Uint32Array(await gpu.read(sums, 0, sumCount(bytes) * 4));
        assertEqual([parts.reduce(add)], [(words.reduce(add) * 2) >>> 0], "sum");
      };
      return { dispatches: [await sumWords(gpu, from, sums, bytes)], verify };
    },
  },
];
