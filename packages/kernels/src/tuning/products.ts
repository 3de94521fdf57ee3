/** Dense products, of few tokens and of many. */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import { type Keep, pick, sampledRows } from "../bench/case.ts";
import { benchMatrix } from "../bench/pattern.ts";
import { halvesBuffer } from "../matrix/halves.ts";
import { matmul } from "../matmul/kernel.ts";
import { matvec } from "../matvec/kernel.ts";
import { linearReference } from "../matvec/reference.ts";
import { assertClose, normals, uploadBatch } from "../testing/mod.ts";
import { type WeightMatrix, matrixBytes } from "../weights.ts";
import { TOLERANCE, type TuningCase, countOf, roundsFor } from "./case.ts";
import type { TuningProduct } from "./shapes.ts";

const COMPARED_TOKENS = 2;

export function productCase(op: "matvec" | "matmul", model: string, shape: TuningProduct, tokens: number): TuningCase {
  const { what, rows, cols, format } = shape;
  return {
    op,
    name: `${model} ${what}, ${rows} x ${cols} ${format}, ${countOf(tokens)}`,
    prepare: async (gpu, keep, random) => {
      const { matrix, rowsOf } = benchMatrix(gpu, keep, random, shape);
      const rounds = op === "matvec" ? roundsFor(gpu, matrixBytes(shape)) : 1;
      const matrices = [matrix, ...Array.from({ length: rounds - 1 }, () => copied(gpu, keep, matrix))];
      const input = normals(random, tokens * cols);
      const x = keep(gpu.upload("x", Float32Array.from(input), "activations"));
      const y = keep(gpu.buffer({ label: "y", size: tokens * rows * 4, kind: "activations" }));
      const halves = keep(halvesBuffer(gpu, { rows: tokens, columns: cols }));
      const step = uploadBatch(gpu, zeroBatch(tokens), tokens);
      keep(step.batch);
      const sampled = sampledRows(random, rows);
      const compared = Math.min(tokens, COMPARED_TOKENS);
      // The last tokens.
      const first = tokens - compared;
      const expected = linearReference(input.subarray(first * cols), rowsOf(sampled), compared, sampled.length, cols);
      return {
        rounds,
        outputs: [y],
        record: async () => {
          const dispatches: Dispatch[] = [];
          for (const own of matrices) {
            const spec = { matrix: own, tokens, x, xStride: cols, y, yStride: rows };
            dispatches.push(...(op === "matvec" ? await matvec(gpu, spec) : await matmul(gpu, { ...spec, halves, step })));
          }
          return dispatches;
        },
        verify: async () => {
          const result = new Float32Array(await gpu.read(y, first * rows * 4, compared * rows * 4));
          assertClose(pick(result, compared, rows, sampled), expected, TOLERANCE, "y");
        },
      };
    },
  };
}

export function zeroBatch(tokens: number) {
  const zeros = Array.from({ length: tokens }, () => 0);
  return { tokens: zeros, positions: zeros, sequences: zeros, outputRows: [] };
}

/** The same weights in buffers of their own. */
export function copied(gpu: GpuContext, keep: Keep, matrix: WeightMatrix): WeightMatrix {
  const parts = matrix.parts.map((part) => {
    const { size } = part.buffer;
    const buffer = keep(gpu.buffer({ label: "bench weights", size, kind: "weights" }));
    gpu.submit([{ copy: { from: part.buffer, fromOffset: 0, to: buffer, toOffset: 0, size } }]);
    return { ...part, buffer };
  });
  return { ...matrix, parts };
}
