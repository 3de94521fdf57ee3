/** The chosen experts of a layer, for many tokens. */
import type { GpuContext } from "@shoal/gpu";
import { type ExpertGroup, encodeRouting } from "../experts.ts";
import { type Route, combineReference, downReference, gateUpReference } from "../expertsFew/reference.ts";
import { expertTiles, groupTokens } from "../expertsMany/grouping.ts";
import { expertTileRows } from "../expertsMany/tileRows.ts";
import { expertsCombine, expertsDownMany, expertsGateUpMany, mostHalvesRows } from "../expertsMany/kernel.ts";
import { halvesBuffer } from "../matrix/halves.ts";
import { type Random, assertClose, normals, randomRoutes, uploadBatch } from "../testing/mod.ts";
import { type BenchCases, type Keep, type Prepared, TOLERANCE, pick, sampledRows } from "./case.ts";
import { type BenchExperts, benchExperts } from "./pattern.ts";
import type { BenchShapes } from "./sizes.ts";

const COMPARED_TOKENS = 2;

export const expertCases: BenchCases = (shapes) => {
  const { experts, hidden, expertWidth, slots, tokens } = shapes;
  const what = `${slots} of ${experts} experts of ${expertWidth} x ${hidden} fp8`;
  return [
    {
      op: "expertsGateUpMany",
      name: `${what}, ${tokens} tokens`,
      prepare: (gpu, keep, random) => gateUp(gpu, keep, random, shapes, tokens),
    },
    { op: "expertsDownMany", name: `${what}, ${tokens} tokens`, prepare: (gpu, keep, random) => down(gpu, keep, random, shapes, tokens) },
  ];
};

interface Routed extends BenchExperts {
  readonly routes: readonly Route[];
  readonly routing: GPUBuffer;
}

function routed(gpu: GpuContext, keep: Keep, random: Random, shapes: BenchShapes, tokens: number): Routed {
  const { experts: count, hidden, expertWidth: width, slots } = shapes;
  const routes = randomRoutes(random, count, tokens, slots);
  const routing = keep(gpu.upload("routing", encodeRouting(routes), "activations"));
  return { ...benchExperts(gpu, keep, random, { count, hidden, width }), routes, routing };
}

/** Sorts the tokens by expert, once: that is timed as part of a step, not here. */
async function grouped(gpu: GpuContext, keep: Keep, routing: GPUBuffer, group: ExpertGroup, slots: number, tokens: number) {
  const zeros = Array.from({ length: tokens }, () => 0);
  const step = uploadBatch(gpu, { tokens: zeros, positions: zeros, sequences: zeros, outputRows: [] }, tokens);
  keep(step.batch);
  const tileRows = expertTileRows(gpu, { tokens, slots, experts: group.count, halves: true });
  const { tilesBytes, rowsBytes } = expertTiles({ maxTokens: tokens, slots, experts: group.count, tileRows });
  const tiles = keep(gpu.buffer({ label: "tiles", size: tilesBytes, kind: "activations" }));
  const rows = keep(gpu.buffer({ label: "tile rows", size: rowsBytes, kind: "activations" }));
  const grouping = { tiles, rows, tileRows };
  gpu.submit(await groupTokens(gpu, { routing, slots, experts: group.count, ...grouping, tokens, maxTokens: tokens, step }));
  return grouping;
}

interface Split {
  readonly slots: number;
  readonly tokens: number;
  readonly tileRows: number;
  readonly columns: number;
}

function halvesFor(gpu: GpuContext, { count: experts }: ExpertGroup, { tokens, columns, ...rest }: Split): GPUBuffer {
  return halvesBuffer(gpu, { rows: mostHalvesRows({ maxTokens: tokens, experts, ...rest }), columns });
}

async function gateUp(gpu: GpuContext, keep: Keep, random: Random, shapes: BenchShapes, tokens: number): Promise<Prepared> {
  const { hidden, expertWidth: width, slots } = shapes;
  const { group, routes, routing, gateRows, upRows } = routed(gpu, keep, random, shapes, tokens);
  const input = normals(random, tokens * hidden);
  const x = keep(gpu.upload("x", Float32Array.from(input), "activations"));
  const h = keep(gpu.buffer({ label: "h", size: tokens * slots * width * 4, kind: "activations" }));
  const grouping = await grouped(gpu, keep, routing, group, slots, tokens);
  const halves = keep(halvesFor(gpu, group, { slots, tokens, tileRows: grouping.tileRows, columns: hidden }));
  const dispatches = await expertsGateUpMany(gpu, { group, slots, halves, x, xStride: hidden, h, tokens, grouping });
  const verify = async (): Promise<void> => {
    const rows = sampledRows(random, width);
    const compared = Math.min(tokens, COMPARED_TOKENS);
    const values = { hidden, width: rows.length, gate: gateRows(rows), up: upRows(rows), down: new Float64Array() };
    const result = new Float32Array(await gpu.read(h, 0, compared * slots * width * 4));
    const expected = gateUpReference(values, input, routes.slice(0, compared * slots), slots);
    assertClose(pick(result, compared * slots, width, rows), expected, TOLERANCE, "h");
  };
  return { dispatches, verify };
}

async function down(gpu: GpuContext, keep: Keep, random: Random, shapes: BenchShapes, tokens: number): Promise<Prepared> {
  const { hidden, expertWidth: width, slots } = shapes;
  const { group, routes, routing, downRows } = routed(gpu, keep, random, shapes, tokens);
  const inner = normals(random, tokens * slots * width);
  const h = keep(gpu.upload("h", Float32Array.from(inner), "activations"));
  const y = keep(gpu.buffer({ label: "y", size: tokens * hidden * 4, kind: "activations" }));
  const verify = async (): Promise<void> => {
    const rows = sampledRows(random, hidden);
    const compared = Math.min(tokens, COMPARED_TOKENS);
    const some = routes.slice(0, compared * slots);
    const values = { hidden: rows.length, width, gate: new Float64Array(), up: new Float64Array(), down: downRows(rows) };
    const result = new Float32Array(await gpu.read(y, 0, compared * hidden * 4));
    const expected = combineReference(downReference(values, inner, some), some, slots, new Float64Array(compared * rows.length));
    assertClose(pick(result, compared, hidden, rows), expected, TOLERANCE, "y");
  };
  const out = keep(gpu.buffer({ label: "out", size: tokens * slots * hidden * 4, kind: "activations" }));
  const grouping = await grouped(gpu, keep, routing, group, slots, tokens);
  const halves = keep(halvesFor(gpu, group, { slots, tokens, tileRows: grouping.tileRows, columns: width }));
  const dispatches = [
    ...(await expertsDownMany(gpu, { group, slots, grouping, halves, h, out, outStride: hidden, tokens })),
    ...(await expertsCombine(gpu, { routing, slots, out, outStride: hidden, y, yStride: hidden, hidden, residual: false, tokens })),
  ];
  return { dispatches, verify };
}
