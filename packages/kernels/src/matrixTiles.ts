/** Tiles of products by subgroup matrices (shaders/lib/matrix_tile.wgsl). */
import type { GpuContext, ShaderConstants } from "@shoal/gpu";
import type { WeightFormat } from "./weights.ts";

/** Formats whose values f16 holds exactly, but for a power of two. BF16 has a wider range. */
export const MATRIX_FORMATS: readonly WeightFormat[] = ["fp8", "f16"];

/**
 * How: `matrix`: activations as the sum of two f16 numbers, so that what is lost is less than f32 sums round. `fast`: rounded to f16, by up to 2^-11 of themselves; only ever
 * by name. `emulated`: `matrix` with plain loops in place of the hardware, for tests.
 */
export type MatrixMode = "matrix" | "fast" | "emulated";

/**
 * Shares of the largest result by which sums of 300 products may be wrong. Tensor cores cut f32 sums off rather than rounding them; `emulated` sums as loops do.
 */
export const MATRIX_TOLERANCES: Readonly<Record<MatrixMode, number>> = { matrix: 1e-5, fast: 1e-3, emulated: 3e-6 };

/** Rows of weights and of activations that a workgroup multiplies, columns at a time, and how subgroups share them: FRAGMENTS of 16 each. */
export interface MatrixTile {
  readonly weightRows: number;
  readonly inputRows: number;
  readonly columns: 32 | 64;
  readonly fragmentsM: 1 | 2;
  readonly fragmentsN: 2 | 4;
}

/** For tests, where compiling takes long. */
export const TILE_64X32: MatrixTile = { weightRows: 64, inputRows: 32, columns: 32, fragmentsM: 2, fragmentsN: 2 };
/** For prefill. */
export const TILE_128X128: MatrixTile = { weightRows: 128, inputRows: 128, columns: 32, fragmentsM: 2, fragmentsN: 4 };
export const TILE_128X64: MatrixTile = { weightRows: 128, inputRows: 64, columns: 32, fragmentsM: 2, fragmentsN: 2 };
/** More columns at a time, because few rows are limited by reading weights. */
export const TILE_128X32: MatrixTile = { weightRows: 128, inputRows: 32, columns: 64, fragmentsM: 2, fragmentsN: 2 };
export const TILE_128X16: MatrixTile = { weightRows: 128, inputRows: 16, columns: 64, fragmentsM: 1, fragmentsN: 2 };

/** Subgroups of 32 along both sides. */
function subgroups({ weightRows, inputRows, fragmentsM, fragmentsN }: MatrixTile): { readonly m: number; readonly n: number } {
  return { m: inputRows / (16 * fragmentsM), n: weightRows / (16 * fragmentsN) };
}

export function matrixConstants(tile: MatrixTile, mode: MatrixMode): ShaderConstants {
  const { m, n } = subgroups(tile);
  return {
    SUBGROUP_MATRIX: mode === "emulated" ? "emulated" : "hardware",
    PRODUCTS: mode === "fast" ? 1 : 2,
    TILE_K: tile.columns,
    FRAGMENTS_M: tile.fragmentsM,
    FRAGMENTS_N: tile.fragmentsN,
    SUBGROUPS_M: m,
    SUBGROUPS_N: n,
  };
}

/** Whether the device has the matrices and room for the tile. */
export function supportsMatrixTile(gpu: GpuContext, tile: MatrixTile, mode: MatrixMode): boolean {
  const { m, n } = subgroups(tile);
  const { maxComputeWorkgroupStorageSize: memory, maxComputeInvocationsPerWorkgroup: invocations } = gpu.limits;
  const operands = (tile.weightRows + (mode === "fast" ? 1 : 2) * tile.inputRows) * (tile.columns * 2 + 16);
  const sums = m * n * 16 * 144;
  // The rest: the largest of x, and some for what the engine adds.
  const fits = Math.max(operands, sums) + 64 <= memory && m * n * 32 <= invocations;
  return fits && (mode === "emulated" || gpu.dialect.subgroupMatrix !== undefined);
}
