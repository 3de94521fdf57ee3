/** Tolerance: none, these are integers. */
import { type ContractCase, assertEqual, seededRandom, withBuffers } from "../testing/mod.ts";
import { copyBytes, sumCount, sumWords } from "./kernel.ts";

/** A vector, a workgroup's and its neighbours, and more than one turn of every workgroup would not be quick here. */
const VECTORS = [1, 255, 257, 4099];

export const bandwidthContract: readonly ContractCase[] = VECTORS.map((vectors) => ({
  name: `bandwidth: ${vectors} vectors are copied and summed`,
  run: (gpu) =>
    withBuffers(gpu, async (keep) => {
      const random = seededRandom(vectors);
      const bytes = vectors * 16;
      const words = Uint32Array.from({ length: vectors * 4 }, () => random.integer(2 ** 32));
      const from = keep(gpu.upload("from", words, "scratch"));
      const to = keep(gpu.upload("to", new Uint32Array(vectors * 4 + 4).fill(7), "scratch"));
      const sums = keep(gpu.buffer({ label: "sums", size: sumCount(bytes) * 4, kind: "scratch" }));
      gpu.submit([await copyBytes(gpu, from, to, bytes), await sumWords(gpu, from, sums, bytes)]);
      const copied = new Uint32Array(await gpu.read(to));
      assertEqual(copied, [...words, 7, 7, 7, 7], "copy");
      const parts = new Uint32Array(await gpu.read(sums, 0, sumCount(bytes) * 4));
      const add = (a: number, b: number): number => (a + b) >>> 0;
      assertEqual([parts.reduce(add)], [words.reduce(add)], "sum");
    }),
}));
