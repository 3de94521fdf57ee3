/**
 * What gate and up make, written as halves for down: times powers of two that grouping settles before.
 *
 * Tolerance: twice the variant's, as the products' contract has it, and 2^-11 of each number for rounding to f16.
 */
import type { GpuContext } from "@shoal/gpu";
import { encodeRouting } from "../experts.ts";
import { gateUpReference } from "../expertsFew/reference.ts";
import { type HalvesLayout, halvesBuffer, halvesBytes } from "../matrix/halves.ts";
import { rmsNormReference } from "../matvec/reference.ts";
import { normOperands } from "../rmsNorm/operands.ts";
import {
  type ContractCase,
  assertClose,
  decodeHalves,
  normals,
  oneIn,
  padded,
  randomExperts,
  randomRoutes,
  seededRandom,
  uploadBatch,
  withBuffers,
} from "../testing/mod.ts";
import { supportedVariants } from "../variants.ts";
import { roundUp } from "../weights.ts";
import { expertTiles, groupTokens } from "./grouping.ts";
import { expertsGateUpMany, gateUpLayout, mostHalvesRows } from "./kernel.ts";
import { expertsManyTrials, expertsManyVariants } from "./variants.ts";

interface Shape {
  readonly count: number;
  readonly hidden: number;
  readonly width: number;
  readonly slots: number;
  readonly tokens: number;
  /** Of gamma: what gate and up make goes with its square. */
  readonly scale: number;
}

const SHAPES: readonly Shape[] = [
  { count: 9, hidden: 300, width: 256, slots: 3, tokens: 7, scale: 3e4 },
  { count: 5, hidden: 130, width: 128, slots: 5, tokens: 17, scale: 1e-5 },
];
const TILE_ROWS = 16;

export const expertsHiddenContract: readonly ContractCase[] = SHAPES.map((shape, index) => ({
  name: `expertsMany: gate-up writes its results as down's halves for ${JSON.stringify(shape)}`,
  run: (gpu) => check(gpu, shape, index + 1),
}));

async function check(gpu: GpuContext, { count, hidden, width, slots, tokens, scale }: Shape, seed: number): Promise<void> {
  const random = seededRandom(seed);
  const shape = { gateUp: true, format: "fp8", tileRows: TILE_ROWS } as const;
  const variants = supportedVariants(gpu, [...expertsManyVariants(gpu, shape), ...expertsManyTrials(gpu, shape)]);
  const all = gpu.dialect.f16 ? variants.filter(({ halves }) => halves === "tiled") : [];
  // There `emulated` takes ten seconds.
  const strips = gpu.adapter.isSoftware ? oneIn(2, all, seed) : all;
  await withBuffers(gpu, async (keep) => {
    const made = randomExperts(gpu, random, { count, hidden, width, format: "fp8" });
    for (const buffer of made.buffers) keep(buffer);
    const { group, values } = made;
    const { gateUpScales: scales } = group;
    if (!scales) throw new RangeError("FP8 experts without scales");
    const routes = randomRoutes(random, count, tokens, slots);
    const zeros = Array.from({ length: tokens }, () => 0);
    const step = uploadBatch(gpu, { tokens: zeros, positions: zeros, sequences: zeros, outputRows: [] }, tokens);
    keep(step.batch);
    const buffer = (label: string, size: number): GPUBuffer => keep(gpu.buffer({ label, size, kind: "activations" }));
    const counts = { maxTokens: tokens, slots, experts: count, tileRows: TILE_ROWS };
    const { maxTiles, tilesBytes, rowsBytes } = expertTiles(counts);
    const grouping = { tiles: buffer("tiles", tilesBytes), rows: buffer("rows", rowsBytes), tileRows: TILE_ROWS };
    const routing = keep(gpu.upload("routing", encodeRouting(routes), "activations"));
    const xStride = roundUp(hidden, 16);
    const x = normals(random, tokens * hidden);
    const gamma = normals(random, hidden, scale);
    const xBuffer = keep(gpu.upload("x", padded(x, tokens, hidden, xStride), "activations"));
    const gammaBuffer = keep(gpu.upload("gamma", padded(gamma, 1, hidden, xStride), "weights"));
    const rows: HalvesLayout = { rows: TILE_ROWS * maxTiles, columns: width, blocks: true, format: "fp8", products: 1 };
    const room = keep(halvesBuffer(gpu, { rows: mostHalvesRows(counts), columns: hidden }));
    const runs = await Promise.all(
      strips.map(async ({ name, tolerance = 0 }) => {
        const spec = { group, slots, tokens, grouping, halves: room, variant: name };
        const layout = gateUpLayout(gpu, spec)?.layout;
        if (!layout) throw new RangeError(`${name} takes no halves`);
        const from = {
          layout: { ...layout, rows: tokens, blocks: false },
          buffer: buffer("normed", halvesBytes({ ...layout, rows: tokens })),
        };
        const to = { layout, buffer: room };
        const out = { layout: rows, buffer: buffer("hidden", halvesBytes(rows)) };
        const norm = { x: xBuffer, xStride, gamma: gammaBuffer, epsilon: 1e-6, cols: hidden, tokens, halves: from };
        const gather = { from, to, hidden: { rows: out, scales } };
        const grouped = { ...counts, ...grouping, routing, tokens, step, gather };
        const products = { ...spec, written: to, hidden: out, x: xBuffer, xStride, h: out.buffer };
        const made = [await normOperands(gpu, norm), await groupTokens(gpu, grouped), await expertsGateUpMany(gpu, products)];
        return { name, rel: Math.max(5e-6, 2 * tolerance) + 2 ** -11, out, dispatches: made.flat() };
      }),
    );
    const input = rmsNormReference(x, gamma, tokens, hidden, 1e-6);
    const expected = gateUpReference(values, input, routes, slots);
    for (const { name, rel, out, dispatches } of runs) {
      gpu.submit(dispatches);
      const decoded = decodeHalves(await gpu.read(out.buffer), out);
      const tiles = new Uint32Array(await gpu.read(grouping.tiles));
      const pairs = new Uint32Array(await gpu.read(grouping.rows));
      const actual = new Float64Array(expected.length).fill(Number.NaN);
      for (let tile = 0; tile < (tiles[0] ?? 0); tile++) {
        const [, first = 0, rowsOfTile = 0, block = 0] = tiles.subarray(4 * (tile + 1));
        for (let m = 0; m < rowsOfTile; m++) {
          const row = (block * TILE_ROWS + m) * width;
          actual.set(decoded.subarray(row, row + width), (pairs[first + m] ?? 0) * width);
        }
      }
      assertClose(actual, expected, { abs: 0, rel }, `h of ${name}`);
    }
  });
}
