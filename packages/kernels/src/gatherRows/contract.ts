/** Exact. */
import type { GpuContext } from "@shoal/gpu";
import {
  type ContractCase,
  assertEqual,
  normals,
  padded,
  runAndRead,
  seededRandom,
  unpadded,
  uploadBatch,
  withBuffers,
} from "../testing/mod.ts";
import { roundUp } from "../weights.ts";
import { gatherRows } from "./kernel.ts";
import { gatherRowsReference } from "./reference.ts";

interface Shape {
  readonly cols: number;
  readonly tokens: number;
  readonly rows: readonly number[];
}

const SHAPES: readonly Shape[] = [
  { cols: 1, tokens: 1, rows: [0] },
  { cols: 37, tokens: 7, rows: [6, 0, 3, 3] },
  { cols: 1031, tokens: 3, rows: [2] },
];

export const gatherRowsContract: readonly ContractCase[] = SHAPES.map((shape, index) => ({
  name: `gatherRows() copies the outputs' rows for ${JSON.stringify(shape)}`,
  run: (gpu) => check(gpu, shape, index + 1),
}));

async function check(gpu: GpuContext, { cols, tokens, rows }: Shape, seed: number): Promise<void> {
  await withBuffers(gpu, async (keep) => {
    const values = normals(seededRandom(seed), tokens * cols);
    const xStride = roundUp(cols, 16);
    const outStride = xStride + 16;
    const x = keep(gpu.upload("x", padded(values, tokens, cols, xStride), "activations"));
    const out = keep(gpu.upload("out", new Float32Array((rows.length + 1) * outStride).fill(5), "activations"));
    const zeros = Array.from({ length: tokens }, () => 0);
    const step = uploadBatch(gpu, { tokens: zeros, positions: zeros, sequences: zeros, outputRows: rows }, tokens + 4);
    keep(step.batch);
    const dispatches = await gatherRows(gpu, { x, xStride, cols, out, outStride, step, outputs: rows.length + 1 });
    const result = await runAndRead(gpu, dispatches, out);
    assertEqual(unpadded(result, rows.length, cols, outStride), gatherRowsReference(values, cols, rows), "out");
    assertEqual(result.subarray(rows.length * outStride), new Float32Array(outStride).fill(5), "the row after the last");
  });
}
