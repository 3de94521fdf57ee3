/** Dense products of many tokens. */
import type { GpuContext } from "@shoal/gpu";
import { halvesBuffer } from "../matrix/halves.ts";
import { matmul } from "../matmul/kernel.ts";
import { linearReference } from "../matvec/reference.ts";
import { type Random, assertClose, normals, uploadBatch } from "../testing/mod.ts";
import type { WeightFormat } from "../weights.ts";
import { type BenchCase, type BenchCases, type Keep, TOLERANCE, pick, sampledRows } from "./case.ts";
import { benchMatrix } from "./pattern.ts";

interface Product {
  readonly rows: number;
  readonly cols: number;
  readonly format: WeightFormat;
  readonly tokens: number;
}

/** Results compared are those of so many tokens, for the reference is slow. */
const COMPARED_TOKENS = 4;

export const productCases: BenchCases = ({ hidden, attentionWidth, tokens }) => [
  product({ rows: hidden, cols: attentionWidth, format: "fp8", tokens }),
];

function product(shape: Product): BenchCase {
  const { rows, cols, format, tokens } = shape;
  const prepare = async (gpu: GpuContext, keep: Keep, random: Random) => {
    const { matrix, rowsOf } = benchMatrix(gpu, keep, random, shape);
    const input = normals(random, tokens * cols);
    const x = keep(gpu.upload("x", Float32Array.from(input), "activations"));
    const y = keep(gpu.buffer({ label: "y", size: tokens * rows * 4, kind: "activations" }));
    const halves = keep(halvesBuffer(gpu, { rows: tokens, columns: cols }));
    const spec = { matrix, tokens, halves, x, xStride: cols, y, yStride: rows };
    const zeros = Array.from({ length: tokens }, () => 0);
    const batch = { tokens: zeros, positions: zeros, sequences: zeros, outputRows: [] };
    const step = uploadBatch(gpu, batch, tokens);
    keep(step.batch);
    const dispatches = await matmul(gpu, { ...spec, step });
    const verify = async (): Promise<void> => {
      const sampled = sampledRows(random, rows);
      const compared = Math.min(tokens, COMPARED_TOKENS);
      // The last tokens.
      const first = tokens - compared;
      const result = new Float32Array(await gpu.read(y, first * rows * 4, compared * rows * 4));
      const expected = linearReference(input.subarray(first * cols), rowsOf(sampled), compared, sampled.length, cols);
      assertClose(pick(result, compared, rows, sampled), expected, TOLERANCE, "y");
    };
    return { dispatches, verify };
  };
  return { op: "matmul", name: `${rows} x ${cols} ${format}, ${tokens} ${tokens === 1 ? "token" : "tokens"}`, prepare };
}
