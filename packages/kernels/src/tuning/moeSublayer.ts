/** The MLP of a small MoE layer, in one dispatch or in several, of one token. What it adds to the residual stream is compared. As in attentionSublayer.ts, weights are in caches. */
import type { Dispatch } from "@shoal/gpu";
import { benchExperts, benchMatrix } from "../bench/pattern.ts";
import { expertsDownFew, expertsGateUpFew } from "../expertsFew/kernel.ts";
import { combineReference, downReference, gateUpReference } from "../expertsFew/reference.ts";
import { gateBoardBytes, gateFew, gatesFewTogether } from "../gateFew/kernel.ts";
import { matvec } from "../matvec/kernel.ts";
import { linearReference, rmsNormReference } from "../matvec/reference.ts";
import { moeBoardBytes, moeRunsWhole, moeSublayer } from "../moeSublayer/kernel.ts";
import { router } from "../router/kernel.ts";
import { type RoutedToken, routerReference } from "../router/reference.ts";
import { assertClose, normals, uploadBatch } from "../testing/mod.ts";
import { EPSILON, SURE, TOLERANCE, type TuningCase } from "./case.ts";
import { zeroBatch } from "./products.ts";
import type { TuningLayer } from "./shapes.ts";

export function moeSublayerCase({ name, hidden, spec, width }: TuningLayer): TuningCase {
  const { nRoutedExperts: experts, nActivatedExperts, sharedSlots } = spec;
  const [count, slots] = [experts + sharedSlots, nActivatedExperts + sharedSlots];
  return {
    op: "moeSublayer",
    alone: true,
    name: `${name} MoE sublayer, in one dispatch or several, ${slots} of ${count} experts of ${width} x ${hidden} fp8`,
    prepare: async (gpu, keep, random) => {
      const all = (rows: number): readonly number[] => Array.from({ length: rows }, (_, row) => row);
      const { matrix: gate, rowsOf } = benchMatrix(gpu, keep, random, { rows: experts, cols: hidden, format: "bf16" });
      const gateValues = rowsOf(all(experts));
      const { group, gateRows, upRows, downRows } = benchExperts(gpu, keep, random, { count, hidden, width });
      const norm = normals(random, hidden);
      const biases = normals(random, experts, 0.1);
      let values: Float64Array;
      let normed: Float64Array;
      let token: RoutedToken;
      do {
        values = normals(random, hidden);
        normed = rmsNormReference(values, norm, 1, hidden, EPSILON);
        token = routerReference(linearReference(normed, gateValues, 1, experts, hidden), biases, spec);
      } while (token.margin < SURE);
      const before = Float32Array.from(values);
      const x = keep(gpu.upload("x", before, "activations"));
      const gamma = keep(gpu.upload("gamma", Float32Array.from(norm), "weights"));
      const bias = keep(gpu.upload("bias", Float32Array.from(biases), "weights"));
      const room = (label: string, size: number): GPUBuffer => keep(gpu.buffer({ label, size, kind: "activations" }));
      const routing = room("routing", slots * 8);
      const board = room("board", moeBoardBytes(spec, hidden, 1));
      const gateBoard = room("gate's board", gateBoardBytes(experts, 1));
      const logits = room("logits", experts * 4);
      const h = room("h", slots * width * 4);
      const step = uploadBatch(gpu, zeroBatch(1), 1);
      keep(step.batch);
      const input = { x, xStride: hidden, tokens: 1 };
      const fused = { gamma, epsilon: EPSILON };
      const choice = { spec, bias, routing, step, tokens: 1 };
      const whole = { ...input, ...fused, ...choice, gate, group, board };
      const choose = async (): Promise<readonly Dispatch[]> => {
        if (gatesFewTogether(gpu, { matrix: gate })) return gateFew(gpu, { ...input, ...fused, ...choice, matrix: gate, board: gateBoard });
        return [
          ...(await matvec(gpu, { ...input, matrix: gate, y: logits, yStride: experts, norm: fused })),
          ...(await router(gpu, { ...choice, logits, logitsStride: experts })),
        ];
      };
      // What a model records in its place (packages/model/src/layer/).
      const several = async (): Promise<readonly Dispatch[]> => [
        ...(await choose()),
        ...(await expertsGateUpFew(gpu, { ...input, group, slots, routing, h, norm: fused })),
        ...(await expertsDownFew(gpu, { group, slots, routing, h, y: x, yStride: hidden, residual: true, tokens: 1 })),
      ];
      const routes = token.experts.map((expert, slot) => ({ expert, weight: token.weights[slot] ?? 0 }));
      const weights = { hidden, width, gate: gateRows(all(width)), up: upRows(all(width)), down: downRows(all(hidden)) };
      const out = downReference(weights, gateUpReference(weights, normed, routes, slots), routes);
      const expected = combineReference(out, routes, slots, new Float64Array(hidden));
      return {
        rounds: 1,
        outputs: [routing],
        changed: [{ buffer: x, before }],
        record: async () => (moeRunsWhole(gpu, whole) ? moeSublayer(gpu, whole) : several()),
        verify: async () => {
          const result = new Float32Array(await gpu.read(x));
          const added = Float64Array.from(result, (value, index) => value - (before[index] ?? 0));
          assertClose(added, expected, TOLERANCE, "what was added to x");
        },
      };
    },
  };
}
