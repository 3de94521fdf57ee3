/** Exact: a code times its scale, rounded once. */
import type { GpuContext } from "@shoal/gpu";
import { type ContractCase, assertEqual, randomMatrix, runAndRead, seededRandom, withBuffers } from "../testing/mod.ts";
import type { WeightFormat } from "../weights.ts";
import { dequantize } from "./kernel.ts";
import { dequantizeReference } from "./reference.ts";

interface Shape {
  readonly rows: number;
  readonly cols: number;
  readonly format: WeightFormat;
  readonly partRows?: number;
}

const SHAPES: readonly Shape[] = [
  { rows: 1, cols: 1, format: "fp8" },
  { rows: 261, cols: 129, format: "fp8", partRows: 128 },
  { rows: 7, cols: 1031, format: "bf16" },
  { rows: 5, cols: 33, format: "f16" },
  { rows: 3, cols: 17, format: "f32" },
];

export const dequantizeContract: readonly ContractCase[] = SHAPES.map((shape, index) => ({
  name: `dequantize() gives the stored values for ${JSON.stringify(shape)}`,
  run: (gpu) => check(gpu, shape, index + 1),
}));

async function check(gpu: GpuContext, { rows, cols, format, partRows }: Shape, seed: number): Promise<void> {
  await withBuffers(gpu, async (keep) => {
    const { matrix, values } = randomMatrix(gpu, seededRandom(seed), { rows, cols, format, ...(partRows && { partRows }) });
    for (const part of matrix.parts) keep(part.buffer);
    if (matrix.scales) keep(matrix.scales);
    const y = keep(gpu.buffer({ label: "y", size: rows * cols * 4, kind: "scratch" }));
    const result = await runAndRead(gpu, await dequantize(gpu, { matrix, y }), y);
    assertEqual(result.subarray(0, rows * cols), dequantizeReference(values), "y");
  });
}
