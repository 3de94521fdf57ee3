/** Exact: every value is the one that IEEE f32 arithmetic gives, at and beside the midpoints between codes too. */
import { type GpuContext, e4m3ToNumber } from "@shoal/gpu";
import { type ContractCase, assertEqual, padded, runAndRead, seededRandom, unpadded, withBuffers } from "../testing/mod.ts";
import { roundUp } from "../weights.ts";
import { type ScaleFormat, actQuant } from "./kernel.ts";
import { actQuantReference } from "./reference.ts";

interface Shape {
  readonly cols: number;
  readonly rows: number;
  readonly offset?: number;
  readonly scaleFormat?: ScaleFormat;
}

const SHAPES: readonly Shape[] = [
  { cols: 1, rows: 3 },
  { cols: 127, rows: 60, offset: 16 },
  { cols: 129, rows: 60 },
  { cols: 1031, rows: 40 },
  { cols: 1031, rows: 40, scaleFormat: "ue8m0" },
];

export const actQuantContract: readonly ContractCase[] = SHAPES.map((shape, index) => ({
  name: `actQuant() gives the codes that exact f32 division gives for ${JSON.stringify(shape)}`,
  run: (gpu) => check(gpu, shape, index + 1),
}));

async function check(gpu: GpuContext, shape: Shape, seed: number): Promise<void> {
  const { cols, rows, offset = 0, scaleFormat = "f32" } = shape;
  const values = awkwardRows(rows, cols, seed, scaleFormat === "ue8m0");
  const expected = actQuantReference(values, rows, cols, scaleFormat === "ue8m0");
  const stride = roundUp(cols, 16) + roundUp(offset, 16) + 16;
  await withBuffers(gpu, async (keep) => {
    const shifted = new Float64Array(rows * (cols + offset)).fill(1e6);
    for (let r = 0; r < rows; r++) shifted.set(values.subarray(r * cols, (r + 1) * cols), r * (cols + offset) + offset);
    const x = keep(gpu.upload("x", padded(shifted, rows, cols + offset, stride), "activations"));
    const result = await runAndRead(gpu, await actQuant(gpu, { x, stride, offset, cols, rows, scaleFormat }), x);
    assertEqual(unpadded(result.subarray(offset), rows, cols, stride), expected.values, "x");
    assertEqual(result.subarray(0, offset), new Float32Array(offset).fill(1e6), "what precedes x");
    assertEqual(result.subarray(offset + cols, stride), new Float32Array(stride - offset - cols), "what follows x");
  });
}

/** Rows of all magnitudes, zero rows among them; two thirds of the values lie on a midpoint between two codes, or a unit in the last place beside one. */
function awkwardRows(rows: number, cols: number, seed: number, ue8m0: boolean): Float32Array {
  const random = seededRandom(seed);
  const x = new Float32Array(rows * cols);
  for (let r = 0; r < rows; r++) {
    if (r % 7 === 2) continue;
    const magnitude = 10 ** (random.uniform() * 14 - 9);
    for (let c = 0; c < cols; c++) x[r * cols + c] = random.normal() * magnitude;
  }
  const { scales } = actQuantReference(x, rows, cols, ue8m0);
  const groups = Math.ceil(cols / 128);
  const bits = new Uint32Array(x.buffer);
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < cols; c++) {
      const scale = scales[r * groups + Math.floor(c / 128)] ?? 0;
      if (random.integer(3) === 0 || Math.abs(x[r * cols + c] ?? 0) / scale > 400) continue;
      const code = random.integer(0x7d);
      const midpoint = (e4m3ToNumber(code) + e4m3ToNumber(code + 1)) / 2;
      x[r * cols + c] = midpoint * scale * (random.integer(2) === 0 ? 1 : -1);
      bits[r * cols + c] = (bits[r * cols + c] ?? 0) + random.integer(3) - 1;
    }
  return x;
}
