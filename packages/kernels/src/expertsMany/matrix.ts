/** The experts' tiled products by subgroup matrices (shaders/experts/many_matrix.wgsl). */
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

/** Takes tiles of up to 128 rows. */
export function expertsMatrixVariant(tileRows: number) {
  return variant("matrix", tileFor(tileRows));
}

/** To be had by name only. */
export function expertsMatrixTrials(tileRows: number) {
  return [variant("fast", tileFor(tileRows)), variant("emulated", tileRows <= 32 ? TILE_64X32 : tileFor(tileRows))];
}

function tileFor(tileRows: number): MatrixTile {
  return [TILE_128X16, TILE_128X32, TILE_128X64].find(({ inputRows }) => tileRows <= inputRows) ?? TILE_128X128;
}

function variant(mode: MatrixMode, tile: MatrixTile) {
  return {
    name: mode,
    shader: "experts/many_matrix.wgsl",
    weightRows: tile.weightRows,
    tileRows: [4, 8, 16, 32, 64, 128],
    formats: MATRIX_FORMATS,
    tolerance: MATRIX_TOLERANCES[mode],
    constants: matrixConstants(tile, mode),
    supported: (gpu: GpuContext) => supportsMatrixTile(gpu, tile, mode),
  };
}
