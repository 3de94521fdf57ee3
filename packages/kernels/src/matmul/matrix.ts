/** matmul by subgroup matrices (shaders/matmul/matmul_matrix.wgsl). */
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
  supportsMatrixTile,
  weightRows,
} from "../matrix/tiles.ts";
import { FRAGMENT, type MatrixStrip, stripConstants, stripFormat, supportsStrip } from "../matrix/strips.ts";
import type { MatmulShape, MatmulVariant } from "./variant.ts";

/** Workgroups that keep a large GPU busy: more than one to a processor, for they hide each other's loads. */
const BUSY_WORKGROUPS = 200;

const TILES = [TILE_128X64, TILE_64X64, TILE_128X32, TILE_128X128, TILE_128X16] as const;

/** Where reading weights takes longest. */
const MOST_STRIP_TOKENS = 32;
/** Rows from which there are strips enough of 32. */
const WIDE_ROWS = 4096;
/** Few rows want their columns in many parts; many rows are read twice as wide. */
const STRIPS = [
  { fragments: 1, subgroups: 8 },
  { fragments: 1, subgroups: 4 },
  { fragments: 2, subgroups: 4 },
  { fragments: 2, subgroups: 8 },
  { fragments: 1, subgroups: 8, lines: true },
  { fragments: 2, subgroups: 4, lines: true },
  { fragments: 4, subgroups: 8 },
] as const;

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
  if (!MATRIX_FORMATS.includes(shape.format)) return [];
  const best = bestTile(shape);
  const tiles = [best, ...TILES.filter((tile) => tile !== best)];
  const modes = matrixModes(gpu);
  const large = modes.flatMap((mode) => tiles.map((tile) => variant(mode, tile, shape)));
  if (!stripFormat(shape.format)) return large;
  const wide = STRIPS.filter(({ fragments }) => shape.rows > WIDE_ROWS === fragments > 1);
  const ordered = [...wide, ...STRIPS.filter((each) => !wide.includes(each))];
  const strips = modes.flatMap((mode) => ordered.map((each) => strip(mode, { ...each, inputs: shape.tokens <= FRAGMENT ? 1 : 2 })));
  return shape.tokens <= MOST_STRIP_TOKENS ? [...strips, ...large] : [...large, ...strips];
}

/** To be had by name only. */
export function matmulMatrixTrials(gpu: GpuContext, shape: MatmulShape): readonly MatmulVariant[] {
  if (!MATRIX_FORMATS.includes(shape.format)) return [];
  const fast = matrixModes(gpu).includes("fast") ? [] : TILES.map((tile) => variant("fast", tile, shape));
  const strips = stripFormat(shape.format)
    ? [strip("emulated", { fragments: 1, subgroups: 4, inputs: 1 }), strip("emulated", { fragments: 2, subgroups: 1, inputs: 2 })]
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
    tolerance: MATRIX_TOLERANCES[mode],
    constants: { ...matrixConstants(tile, mode, format), GATE_UP: false },
    supported: (gpu: GpuContext) => supportsMatrixTile(gpu, tile, mode),
  };
}

function strip(mode: MatrixMode, shape: MatrixStrip): MatmulVariant {
  const { fragments, inputs, subgroups, lines = false } = shape;
  return {
    name: `${mode}-strip-${FRAGMENT * fragments}x${FRAGMENT * inputs}-s${subgroups}${lines ? "-lines" : ""}`,
    shader: "matmul/strip.wgsl",
    tileRows: FRAGMENT * fragments,
    tileTokens: FRAGMENT * inputs,
    tokensFirst: true,
    halves: "blocks",
    tolerance: MATRIX_TOLERANCES[mode],
    constants: { GATE_UP: false },
    deviceConstants: (_, { stride }) => stripConstants(shape, mode, stride),
    supported: (gpu: GpuContext) => supportsStrip(gpu, shape, mode),
  };
}
