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
  TILE_64X32,
  matrixConstants,
  supportsMatrixTile,
} from "../matrixTiles.ts";

/** Workgroups that keep a large GPU busy. */
const BUSY_WORKGROUPS = 120;

/** From large to small. */
const TILES = [TILE_128X128, TILE_128X64, TILE_128X32, TILE_128X16] as const;

interface Shape {
  readonly rows: number;
  readonly tokens: number;
}

function workgroups({ weightRows, inputRows }: MatrixTile, { rows, tokens }: Shape): number {
  return Math.ceil(rows / weightRows) * Math.ceil(tokens / inputRows);
}

/** The largest that leaves enough workgroups, because it reads weights once for more tokens; none that is mostly empty. */
function bestTile(shape: Shape): MatrixTile {
  const fitting = TILES.filter(({ inputRows }) => inputRows <= 16 || inputRows < 2 * shape.tokens);
  const smallest = shape.tokens <= 16 ? TILE_128X16 : TILE_128X32;
  return fitting.find((tile) => tile !== TILE_128X16 && workgroups(tile, shape) >= BUSY_WORKGROUPS) ?? smallest;
}

/** One for each size of tile, the best one first. */
export function matmulMatrixVariants(shape: Shape) {
  const best = bestTile(shape);
  return [best, ...TILES.filter((tile) => tile !== best)].map((tile) => variant("matrix", tile));
}

/** To be had by name only. */
export function matmulMatrixTrials() {
  const emulated = [TILE_64X32, TILE_128X16, TILE_128X128].map((tile) => variant("emulated", tile));
  return [...TILES.map((tile) => variant("fast", tile)), ...emulated];
}

function variant(mode: MatrixMode, tile: MatrixTile) {
  return {
    name: `${mode}-${tile.weightRows}x${tile.inputRows}`,
    shader: "matmul/matmul_matrix.wgsl",
    tileRows: tile.weightRows,
    tileTokens: tile.inputRows,
    formats: MATRIX_FORMATS,
    tolerance: MATRIX_TOLERANCES[mode],
    constants: { ...matrixConstants(tile, mode), GATE_UP: false },
    supported: (gpu: GpuContext) => supportsMatrixTile(gpu, tile, mode),
  };
}
