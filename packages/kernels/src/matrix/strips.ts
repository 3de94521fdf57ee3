/** Strips of products for batches, by subgroup matrices (shaders/lib/matrix_strip.wgsl), of activations split beforehand into blocks (halves.ts). */
import type { GpuContext, ShaderConstants } from "@shoal/gpu";
import { CHUNK, SCALE_BLOCK, type WeightFormat } from "../weights.ts";
import type { MatrixMode } from "./tiles.ts";

/** Rows of weights and of activations that a fragment has. */
export const FRAGMENT = 16;

/** Fragments of weights and of activations that a subgroup has, and subgroups that share the columns. */
export interface MatrixStrip {
  readonly fragments: 1 | 2 | 4;
  readonly inputs: 1 | 2;
  readonly subgroups: number;
  /** 128 columns of a row are loaded together, not 64: whole lines of memory, for twice the registers. */
  readonly lines?: boolean;
}

/** Only FP8: lanes load whole blocks of columns of it. */
export function stripFormat(format: WeightFormat): boolean {
  return format === "fp8";
}

/** @param stride elements of a stored row */
export function stripConstants(
  { fragments, inputs, subgroups, lines = false }: MatrixStrip,
  mode: MatrixMode,
  stride: number,
): ShaderConstants {
  const products = mode === "fast" ? 1 : 2;
  return {
    SUBGROUP_MATRIX: mode === "emulated" ? "emulated" : "hardware",
    STORED_OPERANDS: true,
    FRAGMENTS: fragments,
    WHOLE_LINES: lines,
    STORED: Math.min(2, fragments),
    GROUPS: Math.ceil(fragments / 2),
    TOKEN_FRAGMENTS: inputs,
    STRIP_SUBGROUPS: subgroups,
    PRODUCTS: products,
    LOADS: 2 * fragments,
    X_FRAGMENTS: 4 * products * inputs,
    RAGGED_STRIP: (stride / CHUNK) % ((subgroups * SCALE_BLOCK) / CHUNK) !== 0,
  };
}

export function supportsStrip(gpu: GpuContext, { fragments, subgroups }: MatrixStrip, mode: MatrixMode): boolean {
  const { maxComputeWorkgroupStorageSize: memory, maxComputeInvocationsPerWorkgroup: invocations } = gpu.limits;
  // The rest: what the engine adds.
  const fits = subgroups * (fragments === 1 ? 2304 : 2560) + 64 <= memory && 32 * subgroups <= invocations;
  return fits && (mode === "emulated" || gpu.dialect.subgroupMatrix !== undefined);
}
