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
  TILE_64X64_SLIM,
  inputRows,
  matrixConstants,
  supportsMatrixTile,
  weightRows,
} from "../matrix/tiles.ts";
import type { ExpertsManyShape, ExpertsManyVariant } from "./variant.ts";

/** Takes tiles of up to 128 rows. */
export function expertsMatrixVariants(shape: ExpertsManyShape): readonly ExpertsManyVariant[] {
  return MATRIX_FORMATS.includes(shape.format) ? [variant("matrix", tileFor(shape), shape)] : [];
}

/** To be had by name only. */
export function expertsMatrixTrials(shape: ExpertsManyShape): readonly ExpertsManyVariant[] {
  if (!MATRIX_FORMATS.includes(shape.format)) return [];
  const slim = [TILE_64X32, TILE_64X64_SLIM].find((tile) => shape.tileRows <= inputRows(tile));
  return [variant("fast", tileFor(shape), shape), ...(slim ? [variant("emulated", slim, shape)] : [])];
}

function tileFor({ tileRows }: ExpertsManyShape): MatrixTile {
  return [TILE_128X16, TILE_128X32, TILE_128X64].find((tile) => tileRows <= inputRows(tile)) ?? TILE_128X128;
}

function variant(mode: MatrixMode, tile: MatrixTile, { format }: ExpertsManyShape): ExpertsManyVariant {
  return {
    name: mode,
    shader: "experts/many_matrix.wgsl",
    weightRows: weightRows(tile),
    tileRows: [4, 8, 16, 32, 64, 128],
    halves: true,
    tolerance: MATRIX_TOLERANCES[mode],
    constants: matrixConstants(tile, mode, format),
    supported: (gpu: GpuContext) => supportsMatrixTile(gpu, tile, mode),
  };
}
