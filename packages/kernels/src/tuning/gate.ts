/** The gate of one token, in one dispatch or in several. Its experts and their weights are compared. */
import type { Dispatch } from "@shoal/gpu";
import { benchMatrix } from "../bench/pattern.ts";
import { gateBoardBytes, gateFew, gatesFewTogether } from "../gateFew/kernel.ts";
import { matvec } from "../matvec/kernel.ts";
import { linearReference, rmsNormReference } from "../matvec/reference.ts";
import { rmsNorm } from "../rmsNorm/kernel.ts";
import { router } from "../router/kernel.ts";
import { type RoutedToken, routerReference } from "../router/reference.ts";
import { assertClose, assertEqual, normals, uploadBatch } from "../testing/mod.ts";
import { matrixBytes } from "../weights.ts";
import { EPSILON, SURE, TOLERANCE, type TuningCase, roundsFor } from "./case.ts";
import { copied, zeroBatch } from "./products.ts";
import type { TuningGate } from "./shapes.ts";

export function gateCase(model: string, { spec, hidden, written }: TuningGate): TuningCase {
  const { nRoutedExperts: rows, nActivatedExperts, sharedSlots } = spec;
  const shape = { rows, cols: hidden, format: "bf16" } as const;
  return {
    op: "gateFew",
    name: `${model} gate, in one dispatch or several, ${rows} x ${hidden} bf16`,
    prepare: async (gpu, keep, random) => {
      const { matrix, rowsOf } = benchMatrix(gpu, keep, random, shape);
      const weights = rowsOf(Array.from({ length: rows }, (_, row) => row));
      const rounds = roundsFor(gpu, matrixBytes(shape));
      const matrices = [matrix, ...Array.from({ length: rounds - 1 }, () => copied(gpu, keep, matrix))];
      const norm = normals(random, hidden);
      let input: Float64Array;
      let token: RoutedToken;
      do {
        input = normals(random, hidden);
        token = routerReference(
          linearReference(rmsNormReference(input, norm, 1, hidden, EPSILON), weights, 1, rows, hidden),
          undefined,
          spec,
        );
      } while (token.margin < SURE);
      const [x, gamma] = [input, norm].map((values) => keep(gpu.upload("x, gamma", Float32Array.from(values), "activations")));
      if (!x || !gamma) throw new RangeError("There is no input");
      const room = (label: string, size: number): GPUBuffer => keep(gpu.buffer({ label, size, kind: "activations" }));
      const normed = room("normed", hidden * 4);
      const logits = room("logits", rows * 4);
      const routing = room("routing", (nActivatedExperts + sharedSlots) * 8);
      const board = room("board", gateBoardBytes(rows, 1));
      const step = uploadBatch(gpu, zeroBatch(1), 1);
      keep(step.batch);
      const one = { tokens: 1, x, xStride: hidden, gamma, epsilon: EPSILON };
      return {
        rounds,
        outputs: [routing, ...(written ? [normed] : [])],
        record: async () => {
          const dispatches: Dispatch[] = [];
          for (const own of matrices)
            if (gatesFewTogether(gpu, { matrix: own })) {
              const y = written ? { buffer: normed, stride: hidden } : undefined;
              dispatches.push(...(await gateFew(gpu, { ...one, matrix: own, spec, step, y, routing, board })));
            } else {
              const product = { matrix: own, tokens: 1, y: logits, yStride: rows };
              if (written) dispatches.push(...(await rmsNorm(gpu, { ...one, cols: hidden, y: normed, yStride: hidden })));
              dispatches.push(
                ...(await (written
                  ? matvec(gpu, { ...product, x: normed, xStride: hidden })
                  : matvec(gpu, { ...product, x, xStride: hidden, norm: { gamma, epsilon: EPSILON } }))),
                ...(await router(gpu, { logits, logitsStride: rows, routing, spec, tokens: 1, step })),
              );
            }
          return dispatches;
        },
        verify: async () => {
          const bytes = await gpu.read(routing);
          const [words, floats] = [new Uint32Array(bytes), new Float32Array(bytes)];
          const pairs = (all: Uint32Array | Float32Array, at: number): number[] => token.experts.map((_, slot) => all[2 * slot + at] ?? 0);
          assertEqual(pairs(words, 0), token.experts, "experts");
          assertClose(pairs(floats, 1), token.weights, TOLERANCE, "weights");
        },
      };
    },
  };
}
