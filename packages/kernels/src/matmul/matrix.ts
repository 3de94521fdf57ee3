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

/** Workgroups that a large GPU takes at least to be busy. */
const BUSY_WORKGROUPS = 120;

const TILES = [TILE_128X128, TILE_128X64, TILE_128X32] as const;

interface Shape {
  readonly rows: number;
  readonly tokens: number;
}

/** One for each size of tile; first the largest that leaves enough workgroups, because it reads weights once for more tokens. */
export function matmulMatrixVariants({ rows, tokens }: Shape) {
  const busy = ({ weightRows, inputRows }: MatrixTile): boolean =>
    inputRows < 2 * tokens && Math.ceil(rows / weightRows) * Math.ceil(tokens / inputRows) >= BUSY_WORKGROUPS;
  const best = TILES.find(busy) ?? TILE_128X32;
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
