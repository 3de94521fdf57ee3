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
import type { MatmulShape, MatmulVariant } from "./variant.ts";

/** Workgroups that keep a large GPU busy: more than one to a processor, for they hide each other's loads. */
const BUSY_WORKGROUPS = 200;

const TILES = [TILE_128X64, TILE_64X64, TILE_128X32, TILE_128X128, TILE_128X16] as const;

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
  return matrixModes(gpu).flatMap((mode) => tiles.map((tile) => variant(mode, tile, shape)));
}

/** To be had by name only. */
export function matmulMatrixTrials(gpu: GpuContext, shape: MatmulShape): readonly MatmulVariant[] {
  if (!MATRIX_FORMATS.includes(shape.format)) return [];
  const fast = matrixModes(gpu).includes("fast") ? [] : TILES.map((tile) => variant("fast", tile, shape));
  return [...fast, variant("emulated", TILE_64X32, shape), variant("emulated", TILE_256X32, shape)];
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
