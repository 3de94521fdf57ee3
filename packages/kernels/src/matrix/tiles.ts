/** Tiles of products by subgroup matrices (shaders/lib/matrix_tile.wgsl), of activations split beforehand (halves.ts). */
import type { GpuContext, ShaderConstants } from "@shoal/gpu";
import { FORMAT_BYTES, type WeightFormat } from "../weights.ts";

/** Formats whose values f16 holds exactly, but for a power of two. BF16 has a wider range. */
export const MATRIX_FORMATS: readonly WeightFormat[] = ["fp8", "f16"];

/**
 * How: `fast`: activations rounded to f16, by up to 2^-11 of themselves, which is less than f16 caches, the default, round keys and values that all later tokens see.
 * `matrix`: as the sum of two f16 numbers, so that what is lost is less than f32 sums round. `emulated`: `matrix` with plain loops in place of the hardware, for tests.
 */
export type MatrixMode = "matrix" | "fast" | "emulated";

/**
 * Shares of the largest result by which sums of 300 products may be wrong. Tensor cores cut f32 sums off rather than rounding them; `emulated` sums as loops do.
 */
export const MATRIX_TOLERANCES: Readonly<Record<MatrixMode, number>> = { matrix: 1e-5, fast: 1e-3, emulated: 3e-6 };

/** Fragments of 16 that a subgroup has, subgroups side by side, and columns at a time: weights first, then activations. */
export interface MatrixTile {
  readonly fragments: readonly [weights: number, inputs: number];
  readonly subgroups: readonly [weights: number, inputs: number];
  readonly columns: 32 | 64;
}

/**
 * For prefill and for experts. Staging is what limits them, and how many invocations an H100 runs at once: workgroups share some 48 KiB of workgroup memory a processor there.
 * Tiles of few rows of activations therefore want many rows of weights, for which the activations are staged once, and columns enough for whole lines of memory
 * (measured on an H100; without Dawn's bounds checks, which change what is best).
 */
export const TILE_128X128: MatrixTile = { fragments: [4, 4], subgroups: [2, 2], columns: 32 };
export const TILE_128X64: MatrixTile = { fragments: [4, 2], subgroups: [2, 2], columns: 32 };
export const TILE_64X64: MatrixTile = { fragments: [2, 2], subgroups: [2, 2], columns: 32 };
export const TILE_128X32: MatrixTile = { fragments: [4, 2], subgroups: [2, 1], columns: 32 };
export const TILE_256X32: MatrixTile = { fragments: [4, 2], subgroups: [4, 1], columns: 32 };
export const TILE_256X32_WIDE: MatrixTile = { fragments: [2, 2], subgroups: [8, 1], columns: 64 };
export const TILE_128X16: MatrixTile = { fragments: [2, 1], subgroups: [4, 1], columns: 64 };
/** For tests, where compiling takes long. */
export const TILE_64X32: MatrixTile = { fragments: [2, 1], subgroups: [2, 2], columns: 32 };
export const TILE_64X64_SLIM: MatrixTile = { fragments: [4, 1], subgroups: [1, 4], columns: 32 };

/** Rows of weights that a workgroup multiplies. */
export function weightRows({ fragments, subgroups }: MatrixTile): number {
  return 16 * fragments[0] * subgroups[0];
}

/** Rows of activations that it multiplies them with. */
export function inputRows({ fragments, subgroups }: MatrixTile): number {
  return 16 * fragments[1] * subgroups[1];
}

function threads({ subgroups }: MatrixTile): number {
  return 32 * subgroups[0] * subgroups[1];
}

/** All but RAGGED_COLUMNS. */
export function matrixConstants(tile: MatrixTile, mode: MatrixMode, format: WeightFormat): ShaderConstants {
  const { fragments, subgroups, columns } = tile;
  const vectors = columns / (16 / FORMAT_BYTES[format]);
  const stagedVectors = (weightRows(tile) * vectors) / threads(tile);
  return {
    SUBGROUP_MATRIX: mode === "emulated" ? "emulated" : "hardware",
    PRODUCTS: matrixProducts(mode),
    TILE_K: columns,
    STEPS: columns / 16,
    FRAGMENTS_M: fragments[1],
    FRAGMENTS_N: fragments[0],
    PAIRS: fragments[0] / 2,
    SUBGROUPS_M: subgroups[1],
    SUBGROUPS_N: subgroups[0],
    STAGED_VECTORS: stagedVectors,
    LOADS: stagedVectors,
    STAGED_OCTETS: (inputRows(tile) * (columns / 8)) / threads(tile),
  };
}

/** f16 numbers that activations are the sum of. */
export function matrixProducts(mode: MatrixMode): 1 | 2 {
  return mode === "fast" ? 1 : 2;
}

/** The modes that a device chooses from by itself, the first one first: none that is less precise than it was opened for. */
export function matrixModes({ dialect }: GpuContext): readonly ("fast" | "matrix")[] {
  return dialect.subgroupMatrix?.precise ? ["matrix"] : ["fast", "matrix"];
}

/** Whether the device has the matrices and room for the tile. */
export function supportsMatrixTile(gpu: GpuContext, tile: MatrixTile, mode: MatrixMode): boolean {
  const { maxComputeWorkgroupStorageSize: memory, maxComputeInvocationsPerWorkgroup: invocations } = gpu.limits;
  const operands = (weightRows(tile) + matrixProducts(mode) * inputRows(tile)) * (tile.columns * 2 + 16);
  const sums = (threads(tile) / 32) * 16 * 144;
  // The rest: what the engine adds.
  const fits = Math.max(operands, sums) + 64 <= memory && threads(tile) <= invocations;
  return fits && (mode === "emulated" || gpu.dialect.subgroupMatrix !== undefined);
}
