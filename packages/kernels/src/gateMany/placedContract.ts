/**
 * Rows that the gate places for experts: grouped as `groupTokens` does, in blocks of each expert's own, and multiplied by gate and up from there.
 *
 * Tolerance: groups are exact; the rows are the f64 norm's, rounded to f16 where their products take one number; what gate and up make of them as their contract has it.
 */
import type { GpuContext } from "@shoal/gpu";
import { type Route, gateUpReference } from "../expertsFew/reference.ts";
import { type PlacedRows, canPlaceRows, gateMany, placeBoardBytes } from "./kernel.ts";
import { expertTiles, ownBlocks } from "../expertsMany/grouping.ts";
import { expertsGateUpMany } from "../expertsMany/kernel.ts";
import { groupReference } from "../expertsMany/reference.ts";
import { expertsManyTrials, expertsManyVariants } from "../expertsMany/variants.ts";
import { type HalvesLayout, halvesBytes, halvesOctets } from "../matrix/halves.ts";
import { rmsNormReference } from "../matvec/reference.ts";
import type { RouterSpec } from "../router/kernel.ts";
import {
  type ContractCase,
  assertClose,
  assertEqual,
  decodeHalves,
  normals,
  oneIn,
  padded,
  randomExperts,
  randomMatrix,
  seededRandom,
  uploadBatch,
  withBuffers,
} from "../testing/mod.ts";
import { supportedVariants } from "../variants.ts";
import { roundUp } from "../weights.ts";

interface Shape {
  readonly routed: number;
  readonly activated: number;
  readonly shared: number;
  readonly hidden: number;
  readonly width: number;
  readonly tokens: number;
  readonly products: 1 | 2;
  /** Weights of the experts are read besides. */
  readonly ahead?: boolean;
}

const SHAPES: readonly Shape[] = [
  { routed: 9, activated: 3, shared: 2, hidden: 300, width: 256, tokens: 33, products: 1, ahead: true },
  { routed: 70, activated: 4, shared: 0, hidden: 131, width: 128, tokens: 5, products: 2 },
];
const TILE_ROWS = 16;
const EPSILON = 1e-6;

export const gateManyPlacedContract: readonly ContractCase[] = SHAPES.map((shape, index) => ({
  name: `gateMany() places rows for experts: ${JSON.stringify(shape)}`,
  run: (gpu) => check(gpu, shape, index + 1),
}));

async function check(
  gpu: GpuContext,
  { routed, activated, shared, hidden, width, tokens, products, ahead = false }: Shape,
  seed: number,
): Promise<void> {
  const random = seededRandom(seed);
  const experts = routed + shared;
  const slots = activated + shared;
  // A row more than the batch has tokens: nobody takes it.
  const rows = tokens + 1;
  const blocks = ownBlocks({ tokens: rows, experts });
  await withBuffers(gpu, async (keep) => {
    const { matrix } = randomMatrix(gpu, random, { rows: routed, cols: hidden, format: "bf16" });
    for (const part of matrix.parts) keep(part.buffer);
    const made = randomExperts(gpu, random, { count: experts, hidden, width, format: "fp8" });
    for (const buffer of made.buffers) keep(buffer);
    const { gateUpScales: scales } = made.group;
    if (!scales) throw new RangeError("FP8 experts without scales");
    if (!canPlaceRows(gpu, matrix)) return;
    const buffer = (label: string, size: number): GPUBuffer => keep(gpu.buffer({ label, size, kind: "activations" }));
    const xStride = roundUp(hidden, 16);
    const x = normals(random, tokens * hidden);
    const gamma = normals(random, hidden);
    const zeros = Array.from({ length: tokens }, () => 0);
    const step = uploadBatch(gpu, { tokens: zeros, positions: zeros, sequences: zeros, outputRows: [] }, rows);
    keep(step.batch);
    const layout: HalvesLayout = { rows: TILE_ROWS * blocks, columns: roundUp(hidden, 16), blocks: true, format: "fp8", products };
    const hiddenRows: HalvesLayout = { ...layout, columns: width, products: 1 };
    const { tilesBytes } = expertTiles({ maxTokens: rows, slots, experts, tileRows: TILE_ROWS });
    const grouping = { tiles: buffer("tiles", tilesBytes), rows: buffer("rows", layout.rows * 4), tileRows: TILE_ROWS, blocks };
    const placed: PlacedRows = {
      grouping,
      to: { buffer: buffer("halves", halvesBytes(layout)), layout },
      hidden: { rows: { buffer: buffer("hidden", halvesBytes(hiddenRows)), layout: hiddenRows }, scales },
      group: ahead ? made.group : undefined,
      board: buffer("board", placeBoardBytes(experts)),
    };
    const routing = buffer("routing", rows * slots * 8);
    const xBuffer = keep(gpu.upload("x", padded(x, rows, hidden, xStride), "activations"));
    const gate = await gateMany(gpu, {
      matrix,
      spec: routerSpec(routed, activated, shared),
      routing,
      step,
      tokens: rows,
      cols: hidden,
      x: xBuffer,
      xStride,
      gamma: keep(gpu.upload("gamma", padded(gamma, 1, hidden, xStride), "weights")),
      epsilon: EPSILON,
      placed,
    });
    const shape = { gateUp: true, format: "fp8", tileRows: TILE_ROWS } as const;
    const listed = supportedVariants(gpu, [...expertsManyVariants(gpu, shape), ...expertsManyTrials(gpu, shape)]);
    const strips = gpu.dialect.f16 ? listed.filter((variant) => variant.halves === "tiled" && variant.products === products) : [];
    // There `emulated` takes ten seconds.
    const some = gpu.adapter.isSoftware ? oneIn(2, strips, seed) : strips;
    const multiplied = { group: made.group, slots, tokens: rows, grouping, halves: placed.to.buffer, x: xBuffer, xStride, h: xBuffer };
    const runs = await Promise.all(
      some.map(async ({ name, tolerance = 0 }) => ({
        name,
        rel: Math.max(5e-6, 2 * tolerance) + 2 ** -11,
        dispatches: await expertsGateUpMany(gpu, { ...multiplied, written: placed.to, hidden: placed.hidden.rows, variant: name }),
      })),
    );

    // The second time shows that the board is as it was.
    for (const _ of [1, 2]) {
      gpu.submit(gate);
      const pairs = new Uint32Array(await gpu.read(routing)).subarray(0, tokens * slots * 2);
      const routes: Route[] = Array.from({ length: tokens * slots }, (__, i) => ({ expert: pairs[2 * i] ?? 0, weight: 0 }));
      assertEqual(new Uint32Array(await gpu.read(placed.board)).subarray(0, experts + 1), new Uint32Array(experts + 1), "the board");
      const places = await checkTiles(gpu, placed, routes, experts);
      const normed = rmsNormReference(x, gamma, tokens, hidden, EPSILON);
      const decoded = decodeHalves(await gpu.read(placed.to.buffer), placed.to);
      const octets = 8 * halvesOctets(hidden);
      const actual = routes.flatMap((__, pair) => [
        ...decoded.subarray((places[pair] ?? 0) * octets, (places[pair] ?? 0) * octets + hidden),
      ]);
      const expected = routes.flatMap((__, pair) => {
        const token = Math.floor(pair / slots);
        return [...normed.subarray(token * hidden, (token + 1) * hidden)];
      });
      assertClose(actual, expected, { abs: 1e-7, rel: products === 1 ? 2 ** -11 : 2e-6 }, "placed rows");
      for (const { name, rel, dispatches } of runs) {
        gpu.submit(dispatches);
        const results = decodeHalves(await gpu.read(placed.hidden.rows.buffer), placed.hidden.rows);
        const h = routes.flatMap((__, pair) => [...results.subarray((places[pair] ?? 0) * width, (places[pair] ?? 0) * width + width)]);
        assertClose(h, gateUpReference(made.values, normed, routes, slots), { abs: 0, rel }, `h of ${name}`);
      }
    }
  });
}

/** Compares the tiles with `groupReference`'s. @returns which row of the halves each pair has */
async function checkTiles(
  gpu: GpuContext,
  { grouping }: PlacedRows,
  routes: readonly Route[],
  experts: number,
): Promise<readonly number[]> {
  const expected = groupReference(routes, TILE_ROWS);
  const words = new Uint32Array(await gpu.read(grouping.tiles));
  const rows = new Uint32Array(await gpu.read(grouping.rows));
  let [last, turn] = [-1, 0];
  const tiles = expected.tiles.map(([expert, , count]) => {
    turn = expert === last ? turn + 1 : 0;
    last = expert;
    const block = turn * experts + expert;
    return [expert, TILE_ROWS * block, count, block] as const;
  });
  assertEqual(words.subarray(0, 4 * (tiles.length + 1)), [tiles.length, 0, 0, 0, ...tiles.flat()], "tiles");
  const places: number[] = [];
  for (const [, first, count] of tiles) for (let m = 0; m < count; m++) places[rows[first + m] ?? 0] = first + m;
  const placed = routes.map((_, pair) => Math.floor((places[pair] ?? -1) / TILE_ROWS) % experts);
  assertEqual(
    placed,
    routes.map(({ expert }) => expert),
    "experts of the placed rows",
  );
  return places;
}

function routerSpec(nRoutedExperts: number, nActivatedExperts: number, sharedSlots: number): RouterSpec {
  return {
    nRoutedExperts,
    nActivatedExperts,
    nExpertGroups: 1,
    topkGroup: 1,
    scoreFunc: "softmax",
    groupScore: "max",
    normTopkProb: false,
    routedScalingFactor: 1,
    sharedSlots,
  };
}
