/** The chosen experts of a layer: of a few tokens, and of many in tiles. */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import { type Keep, pick, sampledRows } from "../bench/case.ts";
import { benchExperts } from "../bench/pattern.ts";
import { encodeRouting } from "../experts.ts";
import { expertsDownFew, expertsGateUpFew } from "../expertsFew/kernel.ts";
import { type Route, combineReference, downReference, gateUpReference } from "../expertsFew/reference.ts";
import { type ExpertGrouping, expertTiles, groupTokens } from "../expertsMany/grouping.ts";
import { expertsCombine, expertsDownMany, expertsGateUpMany, mostHalvesRows } from "../expertsMany/kernel.ts";
import { halvesBuffer } from "../matrix/halves.ts";
import { type Random, assertClose, normals, randomRoutes, uploadBatch } from "../testing/mod.ts";
import { type PreparedCase, TOLERANCE, type TuningCase, countOf, roundsFor } from "./case.ts";
import { zeroBatch } from "./products.ts";
import type { TuningShapes } from "./shapes.ts";

type Experts = TuningShapes["experts"];

/** Of one token. */
const COMPARED_TOKENS = 1;

/** @param tileRows of the grouping; absent for the kernels of few tokens */
export function expertsCase(which: "gateUp" | "down", model: string, experts: Experts, tokens: number, tileRows?: number): TuningCase {
  const { hidden, width, count, slots } = experts;
  const tiles = tileRows === undefined ? "" : ` in tiles of ${tileRows}`;
  return {
    op: tileRows === undefined ? "expertsFew" : "expertsMany",
    name: `${model} ${which === "gateUp" ? "gate, up" : "down"}, ${slots} of ${count} experts of ${width} x ${hidden} fp8, ${countOf(tokens)}${tiles}`,
    prepare: async (gpu, keep, random) => {
      const run = await prepareRun(gpu, keep, random, experts, tokens, tileRows);
      return which === "gateUp" ? gateUp(gpu, keep, random, run) : down(gpu, keep, random, run);
    },
  };
}

type Run = Awaited<ReturnType<typeof prepareRun>>;

/** Every round takes other experts, where there are enough. */
async function prepareRun(gpu: GpuContext, keep: Keep, random: Random, experts: Experts, tokens: number, tileRows: number | undefined) {
  const { hidden, width, count, slots } = experts;
  const rounds = tileRows === undefined ? roundsFor(gpu, tokens * slots * hidden * width) : 1;
  const routes = randomRoutes(random, count, tokens, slots);
  const rest = Array.from({ length: rounds - 1 }, () => randomRoutes(random, count, tokens, slots));
  // The first one's outputs are verified, so it runs last.
  const routings = [...rest, routes].map((all) => keep(gpu.upload("routing", encodeRouting(all), "activations")));
  const weights = benchExperts(gpu, keep, random, { count, hidden, width });
  const grouping =
    tileRows === undefined ? undefined : await group(gpu, keep, routings.at(-1), { experts: count, slots, tokens, tileRows });
  return { ...experts, ...weights, tokens, rounds, routes, routings, grouping };
}

async function group(
  gpu: GpuContext,
  keep: Keep,
  routing: GPUBuffer | undefined,
  counts: { readonly experts: number; readonly slots: number; readonly tokens: number; readonly tileRows: number },
): Promise<ExpertGrouping> {
  if (!routing) throw new RangeError("Cannot group tokens without a routing");
  const { tokens, tileRows } = counts;
  const step = uploadBatch(gpu, zeroBatch(tokens), tokens);
  keep(step.batch);
  const { tilesBytes, rowsBytes } = expertTiles({ ...counts, maxTokens: tokens });
  const tiles = keep(gpu.buffer({ label: "tiles", size: tilesBytes, kind: "activations" }));
  const rows = keep(gpu.buffer({ label: "tile rows", size: rowsBytes, kind: "activations" }));
  gpu.submit(await groupTokens(gpu, { ...counts, routing, tiles, rows, maxTokens: tokens, step }));
  return { tiles, rows, tileRows };
}

function splitRows({ tokens, slots, count }: Run, tileRows: number): number {
  return mostHalvesRows({ maxTokens: tokens, slots, experts: count, tileRows });
}

function gateUp(gpu: GpuContext, keep: Keep, random: Random, run: Run): PreparedCase {
  const { hidden, width, slots, tokens, rounds, routings, grouping, gateRows, upRows } = run;
  const input = normals(random, tokens * hidden);
  const x = keep(gpu.upload("x", Float32Array.from(input), "activations"));
  const h = keep(gpu.buffer({ label: "h", size: tokens * slots * width * 4, kind: "activations" }));
  const halves = grouping && keep(halvesBuffer(gpu, { rows: splitRows(run, grouping.tileRows), columns: hidden }));
  const spec = { group: run.group, slots, x, xStride: hidden, h, tokens };
  const rows = sampledRows(random, width);
  const values = { hidden, width: rows.length, gate: gateRows(rows), up: upRows(rows), down: new Float64Array() };
  const expected = gateUpReference(values, input, comparedRoutes(run), slots);
  return {
    rounds,
    outputs: [h],
    record: async () => {
      if (grouping) return expertsGateUpMany(gpu, { ...spec, halves, grouping });
      const dispatches: Dispatch[] = [];
      for (const routing of routings) dispatches.push(...(await expertsGateUpFew(gpu, { ...spec, routing })));
      return dispatches;
    },
    verify: async () => {
      const result = new Float32Array(await gpu.read(h, 0, COMPARED_TOKENS * slots * width * 4));
      assertClose(pick(result, COMPARED_TOKENS * slots, width, rows), expected, TOLERANCE, "h");
    },
  };
}

function down(gpu: GpuContext, keep: Keep, random: Random, run: Run): PreparedCase {
  const { hidden, width, slots, tokens, rounds, routings, grouping, downRows } = run;
  const inner = normals(random, tokens * slots * width);
  const h = keep(gpu.upload("h", Float32Array.from(inner), "activations"));
  const y = keep(gpu.buffer({ label: "y", size: tokens * hidden * 4, kind: "activations" }));
  const out = grouping && keep(gpu.buffer({ label: "out", size: tokens * slots * hidden * 4, kind: "activations" }));
  const rows = sampledRows(random, hidden);
  const some = comparedRoutes(run);
  const values = { hidden: rows.length, width, gate: new Float64Array(), up: new Float64Array(), down: downRows(rows) };
  const expected = combineReference(downReference(values, inner, some), some, slots, new Float64Array(COMPARED_TOKENS * rows.length));
  const halves = grouping && keep(halvesBuffer(gpu, { rows: splitRows(run, grouping.tileRows), columns: width }));
  const spec = { group: run.group, slots, h, tokens };
  return {
    rounds,
    outputs: [y, ...(out ? [out] : [])],
    record: async () => {
      const dispatches: Dispatch[] = [];
      const last = routings.at(-1);
      if (grouping && out && last) {
        dispatches.push(...(await expertsDownMany(gpu, { ...spec, halves, grouping, out, outStride: hidden })));
        const sum = { routing: last, slots, out, outStride: hidden, y, yStride: hidden, hidden, residual: false, tokens };
        return [...dispatches, ...(await expertsCombine(gpu, sum))];
      }
      for (const routing of routings)
        dispatches.push(...(await expertsDownFew(gpu, { ...spec, routing, y, yStride: hidden, residual: false })));
      return dispatches;
    },
    verify: async () => {
      const result = new Float32Array(await gpu.read(y, 0, COMPARED_TOKENS * hidden * 4));
      assertClose(pick(result, COMPARED_TOKENS, hidden, rows), expected, TOLERANCE, "y");
    },
  };
}

function comparedRoutes({ routes, slots }: Run): readonly Route[] {
  return routes.slice(0, COMPARED_TOKENS * slots);
}
