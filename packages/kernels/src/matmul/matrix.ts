/** matmul by subgroup matrices: tiles for prefill (shaders/matmul/matmul_matrix.wgsl), strips for batches (strip.wgsl). */
import type { GpuContext } from "@shoal/gpu";
import {
  MATRIX_FORMATS,
  MATRIX_TOLERANCES,
  type MatrixMode,
  type MatrixTile,
  TILE_128X128,
  TILE_128X16,
  TILE_128X32,
  TILE_128X64,
  TILE_256X32,
  TILE_64X32,
  TILE_64X64,
  inputRows,
  matrixConstants,
  matrixModes,
  matrixProducts,
  supportsMatrixTile,
  weightRows,
} from "../matrix/tiles.ts";
import { FRAGMENT, type MatrixStrip, stripConstants, stripFormat, supportsStrip, writesOnce } from "../matrix/strips.ts";
import type { MatmulShape, MatmulVariant } from "./variant.ts";

/** Workgroups that keep a large GPU busy: more than one to a processor, for they hide each other's loads. */
const BUSY_WORKGROUPS = 200;

const TILES = [TILE_128X64, TILE_64X64, TILE_128X32, TILE_128X128, TILE_128X16] as const;

/** Where reading weights takes longest. */
const MOST_STRIP_TOKENS = 32;
/** Few rows want their columns in many parts, and workgroups of 16 tokens each: there are twice as many. Up to so many rows each was fastest on an H100, at 32 tokens. */
const STRIPS: readonly (Omit<MatrixStrip, "inputs"> & { readonly rows: number; readonly inputs?: 1 })[] = [
  { rows: 2048, fragments: 1, subgroups: 8, inputs: 1, wholeInputs: true },
  { rows: 4096, fragments: 2, subgroups: 8, inputs: 1, wholeInputs: true, short: true },
  { rows: Number.POSITIVE_INFINITY, fragments: 2, subgroups: 4, lines: true },
];

/** Of BF16, whose tokens' share of the memory traffic is smaller. The first was fastest on an H100, for a head of 102,400 rows and 32 tokens. */
const BF16_STRIPS: readonly Omit<MatrixStrip, "inputs">[] = [
  { fragments: 2, subgroups: 4 },
  { fragments: 2, subgroups: 2 },
  { fragments: 4, subgroups: 1 },
];

function workgroups(tile: MatrixTile, { rows, tokens }: MatmulShape): number {
  return Math.ceil(rows / weightRows(tile)) * Math.ceil(tokens / inputRows(tile));
}

function bestTile(shape: MatmulShape): MatrixTile {
  if (shape.tokens <= 16) return TILE_128X16;
  if (shape.tokens <= 32) return TILE_128X32;
  return [TILE_128X64, TILE_64X64].find((tile) => workgroups(tile, shape) >= BUSY_WORKGROUPS) ?? TILE_128X32;
}

/** One for each size of tile, the best one first. */
export function matmulMatrixVariants(gpu: GpuContext, shape: MatmulShape): readonly MatmulVariant[] {
  if (shape.format === "bf16")
    return matrixModes(gpu).flatMap((mode) => BF16_STRIPS.map((each) => strip(mode, { ...each, inputs: stripInputs(shape) })));
  if (!MATRIX_FORMATS.includes(shape.format)) return [];
  const best = bestTile(shape);
  const tiles = [best, ...TILES.filter((tile) => tile !== best)];
  const modes = matrixModes(gpu);
  const large = modes.flatMap((mode) => tiles.map((tile) => variant(mode, tile, shape)));
  if (!stripFormat(shape.format)) return large;
  const first = STRIPS.filter(({ rows }) => shape.rows <= rows).slice(0, 1);
  const inputs = stripInputs(shape);
  const strips = modes.flatMap((mode) =>
    [...first, ...STRIPS.filter((each) => !first.includes(each))].map((each) => strip(mode, { inputs, ...each })),
  );
  return shape.tokens <= MOST_STRIP_TOKENS ? [...strips, ...large] : [...large, ...strips];
}

function stripInputs({ tokens }: MatmulShape): 1 | 2 {
  return tokens <= FRAGMENT ? 1 : 2;
}

/** To be had by name only. */
export function matmulMatrixTrials(gpu: GpuContext, shape: MatmulShape): readonly MatmulVariant[] {
  if (shape.format === "bf16")
    return [strip("emulated", { fragments: 2, subgroups: 2, inputs: 2 }), strip("emulated", { fragments: 1, subgroups: 1, inputs: 1 })];
  if (!MATRIX_FORMATS.includes(shape.format)) return [];
  const fast = matrixModes(gpu).includes("fast") ? [] : TILES.map((tile) => variant("fast", tile, shape));
  const strips = stripFormat(shape.format)
    ? [
        strip("emulated", { fragments: 1, subgroups: 8, inputs: 1 }),
        strip("emulated", { fragments: 2, subgroups: 1, inputs: 2, lines: true }),
      ]
    : [];
  return [...fast, variant("emulated", TILE_64X32, shape), variant("emulated", TILE_256X32, shape), ...strips];
}

function variant(mode: MatrixMode, tile: MatrixTile, { format }: MatmulShape): MatmulVariant {
  return {
    name: `${mode}-${weightRows(tile)}x${inputRows(tile)}`,
    shader: "matmul/matmul_matrix.wgsl",
    tileRows: weightRows(tile),
    tileTokens: inputRows(tile),
    halves: true,
    products: matrixProducts(mode),
    tolerance: MATRIX_TOLERANCES[mode],
    constants: { ...matrixConstants(tile, mode, format), GATE_UP: false },
    supported: (gpu: GpuContext) => supportsMatrixTile(gpu, tile, mode),
  };
}

function strip(mode: MatrixMode, shape: MatrixStrip): MatmulVariant {
  const { fragments, inputs, subgroups, lines = false, wholeInputs = false, short = false } = shape;
  return {
    name: `${mode}-strip-${FRAGMENT * fragments}x${FRAGMENT * inputs}-s${subgroups}${short ? "-short" : ""}${lines ? "-lines" : ""}${wholeInputs ? "-inputs" : ""}`,
    shader: "matmul/strip.wgsl",
    tileRows: FRAGMENT * fragments,
    tileTokens: FRAGMENT * inputs,
    tokensFirst: true,
    earlyResults: inputs === 1 && fragments <= 2 && writesOnce(shape),
    halves: "blocks",
    products: matrixProducts(mode),
    tolerance: MATRIX_TOLERANCES[mode],
    constants: { GATE_UP: false },
    deviceConstants: (_, rows) => stripConstants(shape, mode, rows),
    supported: (gpu: GpuContext) => supportsStrip(gpu, shape, mode),
  };
}
