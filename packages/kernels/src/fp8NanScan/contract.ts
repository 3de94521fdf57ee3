/** Exact. */
import type { GpuContext } from "@shoal/gpu";
import { type ContractCase, assertEqual, seededRandom, withBuffers } from "../testing/mod.ts";
import { fp8NanScan } from "./kernel.ts";
import { fp8NanScanReference } from "./reference.ts";

interface Shape {
  readonly words: number;
  readonly index: number;
  /** Bytes before the range, a multiple of 256. */
  readonly offset?: number;
}

const SHAPES: readonly Shape[] = [
  { words: 1, index: 0 },
  { words: 4097, index: 3 },
  { words: 65537, index: 67, offset: 256 },
];

export const fp8NanScanContract: readonly ContractCase[] = SHAPES.map((shape, index) => ({
  name: `fp8NanScan() counts the NaN codes for ${JSON.stringify(shape)}`,
  run: (gpu) => check(gpu, shape, index + 1),
}));

async function check(gpu: GpuContext, { words, index, offset = 0 }: Shape, seed: number): Promise<void> {
  const random = seededRandom(seed);
  // Words past the range hold nothing but NaN.
  const codes = new Uint8Array(offset + words * 4 + 64).fill(0xff);
  for (let i = 0; i < offset + words * 4; i++) codes[i] = random.integer(256);
  await withBuffers(gpu, async (keep) => {
    const buffer = keep(gpu.upload("codes", codes, "weights"));
    const counter = keep(gpu.upload("counters", new Uint32Array(80).fill(5), "scratch"));
    const range = offset > 0 ? { buffer, offset, size: words * 4 } : buffer;
    gpu.submit(await fp8NanScan(gpu, { buffer: range, words, counter, index }));
    const expected = new Uint32Array(80).fill(5);
    expected[index] = 5 + fp8NanScanReference(codes.subarray(offset, offset + words * 4));
    assertEqual(new Uint32Array(await gpu.read(counter)), expected, "counters");
  });
}
