/** Exact. */
import type { GpuContext } from "@shoal/gpu";
import { type ContractCase, assertEqual, seededRandom, withBuffers } from "../testing/mod.ts";
import { NAN_COUNTER_STRIDE, fp8NanScan } from "./kernel.ts";
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
  { words: 65537, index: 7, offset: 256 },
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
    const before = new Uint32Array((8 * NAN_COUNTER_STRIDE) / 4).fill(5);
    const counter = keep(gpu.upload("counters", before, "scratch"));
    const range = offset > 0 ? { buffer, offset, size: words * 4 } : buffer;
    gpu.submit(await fp8NanScan(gpu, { buffer: range, words, counter, index }));
    const expected = before.slice();
    expected[(index * NAN_COUNTER_STRIDE) / 4] = 5 + fp8NanScanReference(codes.subarray(offset, offset + words * 4));
    assertEqual(new Uint32Array(await gpu.read(counter)), expected, "counters");
  });
}
