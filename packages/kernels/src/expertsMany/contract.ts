/**
 * Tolerance: groups are exact. Products are f32, one addition after another along K: 5e-6 of the largest result, for widths up to 260, or
 * as a variant states; the weighted sums 2e-6.
 */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import { encodeRouting } from "../experts.ts";
import { type HalvesLayout, halvesBuffer, halvesBytes, splitHalves } from "../matrix/halves.ts";
import { type Route, combineReference, downReference, gateUpReference } from "../expertsFew/reference.ts";
import {
  type ContractCase,
  assertClose,
  assertEqual,
  normals,
  oneIn,
  padded,
  randomExperts,
  randomRoutes,
  runAndRead,
  seededRandom,
  unpadded,
  uploadBatch,
  withBuffers,
} from "../testing/mod.ts";
import { type WeightFormat, roundUp } from "../weights.ts";
import { supportedVariants } from "../variants.ts";
import { type GatheredHalves, expertTiles, groupTokens } from "./grouping.ts";
import { expertsCombine, expertsDownMany, expertsGateUpMany, mostHalvesRows } from "./kernel.ts";
import { groupReference } from "./reference.ts";
import { expertsManyTrials, expertsManyVariants } from "./variants.ts";
import type { ExpertsManyShape } from "./variant.ts";

interface Shape {
  readonly count: number;
  readonly hidden: number;
  readonly width: number;
  readonly slots: number;
  readonly tokens: number;
  readonly tileRows: number;
  readonly format?: WeightFormat;
  readonly expertsPerPage?: number;
  readonly residual?: boolean;
  /** Only the variants that run anywhere: for what is alike in all. */
  readonly plainOnly?: boolean;
  /** Variants to be had by name only as well. */
  readonly trials?: boolean;
}

const SHAPES: readonly Shape[] = [
  { count: 1, hidden: 1, width: 1, slots: 1, tokens: 1, tileRows: 16 },
  { count: 12, hidden: 200, width: 48, slots: 3, tokens: 31, tileRows: 16, residual: true },
  { count: 5, hidden: 43, width: 129, slots: 5, tokens: 17, tileRows: 16, residual: true, trials: true },
  { count: 7, hidden: 128, width: 256, slots: 3, tokens: 33, tileRows: 32, expertsPerPage: 3, trials: true },
  { count: 19, hidden: 96, width: 40, slots: 9, tokens: 13, tileRows: 16, expertsPerPage: 2, residual: true, plainOnly: true },
  { count: 10, hidden: 96, width: 40, slots: 4, tokens: 9, tileRows: 64, format: "bf16", residual: true },
  { count: 4, hidden: 40, width: 96, slots: 2, tokens: 11, tileRows: 16, format: "f16" },
  { count: 4, hidden: 43, width: 17, slots: 3, tokens: 5, tileRows: 4, format: "f32" },
  { count: 3, hidden: 48, width: 70, slots: 2, tokens: 90, tileRows: 64, trials: true },
  { count: 9, hidden: 136, width: 67, slots: 4, tokens: 21, tileRows: 8, residual: true },
  { count: 7, hidden: 300, width: 272, slots: 2, tokens: 13, tileRows: 16, expertsPerPage: 3, trials: true },
  { count: 6, hidden: 70, width: 150, slots: 2, tokens: 23, tileRows: 8, format: "bf16", expertsPerPage: 4 },
  { count: 3, hidden: 261, width: 83, slots: 3, tokens: 149, tileRows: 128 },
];

const GROUPS = [
  { count: 1, slots: 1, tokens: 255, tileRows: 16 },
  { count: 9, slots: 9, tokens: 29, tileRows: 32 },
  { count: 257, slots: 8, tokens: 151, tileRows: 16 },
  { count: 1025, slots: 9, tokens: 64, tileRows: 8 },
];

const GATHERED = [
  { count: 1, slots: 1, tokens: 255, tileRows: 16, columns: 130, products: 1 },
  { count: 9, slots: 4, tokens: 29, tileRows: 16, columns: 300, products: 2 },
  { count: 66, slots: 8, tokens: 32, tileRows: 8, columns: 1031, products: 1 },
] as const;

export const expertsManyContract: readonly ContractCase[] = [
  ...GATHERED.map((shape, index) => ({
    name: `expertsMany: groupTokens() gathers halves for ${JSON.stringify(shape)}`,
    run: (gpu: GpuContext) => checkGathered(gpu, shape, index + 1),
  })),
  ...GROUPS.map(({ count, slots, tokens, tileRows }, index) => ({
    name: `expertsMany: groupTokens() sorts ${tokens} tokens with ${slots} of ${count} experts into tiles of ${tileRows}`,
    run: (gpu: GpuContext) =>
      withBuffers(gpu, async (keep) => {
        const routes = randomRoutes(seededRandom(index + 1), count, tokens, slots);
        const { verify } = await group(gpu, keep, routes, { count, slots, tokens, tileRows });
        await verify();
      }),
  })),
  ...SHAPES.map((shape, index) => ({
    name: `expertsMany: gate-up, down and their sum equal the f64 experts for ${JSON.stringify(shape)}`,
    run: (gpu: GpuContext) => check(gpu, shape, index + 1),
  })),
];

/** The dispatches of some variants that the device supports, because there are two products and compiling takes time: every other one, on software adapters one in four. */
async function eachVariant(
  gpu: GpuContext,
  shape: ExpertsManyShape & Pick<Shape, "plainOnly" | "trials">,
  from: number,
  make: (variant: string) => Promise<readonly Dispatch[]>,
): Promise<readonly { readonly name: string; readonly rel: number; readonly dispatches: readonly Dispatch[] }[]> {
  const all = supportedVariants(gpu, expertsManyVariants(gpu, shape))
    .filter(({ name }) => !shape.plainOnly || name.startsWith("tile"))
    .toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const some = all.length < 3 ? all : oneIn(gpu.adapter.isSoftware ? 4 : 2, all, from + Number(shape.gateUp));
  const trials = shape.trials ? supportedVariants(gpu, expertsManyTrials(gpu, shape)) : [];
  // Gate and up are multiplied, and with them what each is wrong by.
  return Promise.all(
    [...some, ...trials].map(async ({ name, tolerance }) => ({
      name,
      rel: Math.max(5e-6, 2 * (tolerance ?? 0)),
      dispatches: await make(name),
    })),
  );
}

/**
 * Prepares the grouping of routes; `verify` runs and checks it. A row more than the batch has tokens shows that rows beyond its count are
 * left out.
 */
async function group(
  gpu: GpuContext,
  keep: <B extends GPUBuffer>(buffer: B) => B,
  routes: readonly Route[],
  { count, slots, tokens, tileRows }: Pick<Shape, "count" | "slots" | "tokens" | "tileRows">,
  gather?: GatheredHalves,
) {
  const maxTokens = tokens + 1;
  const zeros = Array.from({ length: tokens }, () => 0);
  const step = uploadBatch(gpu, { tokens: zeros, positions: zeros, sequences: zeros, outputRows: [] }, maxTokens);
  keep(step.batch);
  const routing = keep(gpu.buffer({ label: "routing", size: maxTokens * slots * 8, kind: "activations" }));
  gpu.write(routing, 0, encodeRouting(routes));
  const { tilesBytes, rowsBytes } = expertTiles({ maxTokens, slots, experts: count, tileRows });
  const tiles = keep(gpu.buffer({ label: "tiles", size: tilesBytes, kind: "activations" }));
  const rows = keep(gpu.buffer({ label: "rows", size: rowsBytes, kind: "activations" }));
  const dispatches = await groupTokens(gpu, {
    routing,
    slots,
    experts: count,
    tiles,
    rows,
    tokens: maxTokens,
    maxTokens,
    tileRows,
    step,
    gather,
  });
  const verify = async (): Promise<void> => {
    gpu.submit(dispatches);
    const expected = groupReference(routes, tileRows);
    const tileWords = new Uint32Array(await gpu.read(tiles));
    const expectedTiles = [expected.tiles.length, 0, 0, 0, ...expected.tiles.flatMap((tile, number) => [...tile, number])];
    assertEqual(tileWords.subarray(0, expectedTiles.length), expectedTiles, "tiles");
    assertEqual(new Uint32Array(await gpu.read(rows)).subarray(0, routes.length), expected.rows, "rows");
  };
  return { routing, grouping: { tiles, rows, tileRows }, verify };
}

/** The same bits as rows that are split where they are wanted. */
async function checkGathered(gpu: GpuContext, shape: (typeof GATHERED)[number], seed: number): Promise<void> {
  const { count, slots, tokens, tileRows, columns, products } = shape;
  const random = seededRandom(seed);
  await withBuffers(gpu, async (keep) => {
    const routes = randomRoutes(random, count, tokens, slots);
    // The buffers have room for a token more than there are.
    const rows = tokens + 1;
    const xStride = roundUp(columns, 16);
    const x = keep(gpu.upload("x", padded(normals(random, rows * columns), rows, columns, xStride), "activations"));
    const { maxTiles } = expertTiles({ maxTokens: rows, slots, experts: count, tileRows });
    const layout: HalvesLayout = { rows, columns, format: "fp8", products };
    const tiled: HalvesLayout = { ...layout, rows: 16 * maxTiles, blocks: true };
    const [from, to, expected] = [layout, tiled, tiled].map((each) =>
      keep(gpu.buffer({ label: "halves", size: halvesBytes(each), kind: "activations" })),
    );
    if (!from || !to || !expected) throw new RangeError("No buffers");
    const gather = { from: { buffer: from, layout }, to: { buffer: to, layout: tiled } };
    const split = await splitHalves(gpu, { ...layout, x, xStride, halves: from, label: "split" });
    const { grouping, verify } = await group(gpu, keep, routes, { count, slots, tokens, tileRows }, gather);
    const apart = { gathered: { tiles: grouping.tiles, rows: grouping.rows, slots } };
    const wanted = await splitHalves(gpu, { ...tiled, ...apart, x, xStride, halves: expected, label: "split" });
    gpu.submit([split]);
    await verify();
    gpu.submit([wanted]);
    // Rows that tiles lack are zero in both.
    assertEqual(new Uint32Array(await gpu.read(to)), new Uint32Array(await gpu.read(expected)), "gathered halves");
  });
}

async function check(gpu: GpuContext, shape: Shape, seed: number): Promise<void> {
  const {
    count,
    hidden,
    width,
    slots,
    tokens,
    tileRows,
    format = "fp8",
    expertsPerPage,
    residual = false,
    plainOnly = false,
    trials = false,
  } = shape;
  const random = seededRandom(seed);
  await withBuffers(gpu, async (keep) => {
    const made = randomExperts(gpu, random, { count, hidden, width, format, ...(expertsPerPage && { expertsPerPage }) });
    for (const buffer of made.buffers) keep(buffer);
    const { group: experts, values } = made;
    const routes = randomRoutes(random, count, tokens, slots);
    const { routing, grouping, verify } = await group(gpu, keep, routes, { count, slots, tokens, tileRows });
    const x = normals(random, tokens * hidden);
    const before = normals(random, tokens * hidden);
    const xStride = roundUp(hidden, 16) + 16;
    const outStride = roundUp(hidden, 16) + 16;
    const yStride = roundUp(hidden, 16);
    const hStride = roundUp(width, 16);
    const pairs = tokens * slots;
    const xBuffer = keep(gpu.upload("x", padded(x, tokens, hidden, xStride), "activations"));
    const h = keep(gpu.buffer({ label: "h", size: pairs * hStride * 4, kind: "activations" }));
    const splitRows = mostHalvesRows({ maxTokens: tokens, slots, experts: count, tileRows });
    const gateUpHalves = keep(halvesBuffer(gpu, { rows: splitRows, columns: hidden }));
    const downHalves = keep(halvesBuffer(gpu, { rows: splitRows, columns: width }));
    const spec = { group: experts, slots, grouping, h, tokens };
    const fixed = slots === count;
    const gateUps = await eachVariant(gpu, { gateUp: true, fixed, format, tileRows, plainOnly, trials }, seed, (variant) =>
      expertsGateUpMany(gpu, { ...spec, halves: gateUpHalves, x: xBuffer, xStride, variant }),
    );
    const out = keep(gpu.buffer({ label: "out", size: pairs * outStride * 4, kind: "activations" }));
    const downs = await eachVariant(gpu, { gateUp: false, fixed, format, tileRows, plainOnly, trials }, seed, (variant) =>
      expertsDownMany(gpu, { ...spec, halves: downHalves, out, outStride, variant }),
    );
    const y = keep(gpu.upload("y", padded(before, tokens, hidden, yStride, 7), "activations"));
    const combine = await expertsCombine(gpu, { routing, slots, out, outStride, y, yStride, hidden, residual, tokens });

    await verify();
    let hActual: Float64Array = new Float64Array();
    for (const { name, rel, dispatches } of gateUps) {
      gpu.write(h, 0, new Float32Array(pairs * hStride));
      const hWords = await runAndRead(gpu, dispatches, h);
      hActual = unpadded(hWords, pairs, width, hStride);
      assertClose(hActual, gateUpReference(values, x, routes, slots), { abs: 1e-6, rel }, `h of ${name}`);
      assertEqual(hWords.subarray(0, pairs * hStride), padded(hActual, pairs, width, hStride), `h with its padding of ${name}`);
    }

    let outActual: Float64Array = new Float64Array();
    for (const { name, rel, dispatches } of downs) {
      gpu.write(out, 0, new Float32Array(pairs * outStride));
      const outWords = await runAndRead(gpu, dispatches, out);
      outActual = unpadded(outWords, pairs, hidden, outStride);
      assertClose(outActual, downReference(values, hActual, routes), { abs: 1e-6, rel }, `out of ${name}`);
      assertEqual(outWords.subarray(0, pairs * outStride), padded(outActual, pairs, hidden, outStride), `out with its padding of ${name}`);
    }

    const yWords = await runAndRead(gpu, combine, y);
    const yActual = unpadded(yWords, tokens, hidden, yStride);
    const start = residual ? before : new Float64Array(tokens * hidden);
    assertClose(yActual, combineReference(outActual, routes, slots, start), { abs: 1e-6, rel: 2e-6 }, "y");
    assertEqual(yWords.subarray(0, tokens * yStride), padded(yActual, tokens, hidden, yStride, 7), "y with its padding");
  });
}
