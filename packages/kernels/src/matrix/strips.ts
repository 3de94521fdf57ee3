/** Strips of products for batches, by subgroup matrices (shaders/lib/matrix_strip.wgsl), of activations split beforehand into blocks (halves.ts). */
import type { GpuContext, ShaderConstants } from "@shoal/gpu";
import { CHUNK, FORMAT_BYTES, type WeightFormat } from "../weights.ts";
import { type MatrixMode, matrixProducts } from "./tiles.ts";

/** Rows of weights and of activations that a fragment has. */
export const FRAGMENT = 16;

/** Fragments of weights and of activations that a subgroup has, and subgroups that share the columns. */
export interface MatrixStrip {
  readonly fragments: 1 | 2 | 4;
  readonly inputs: 1 | 2;
  readonly subgroups: number;
  /** Both halves of a block's columns are loaded together: of FP8 whole lines of memory, for twice the registers. */
  readonly lines?: boolean;
  /** All of a block's activations are loaded together, for twice the registers. */
  readonly wholeInputs?: boolean;
  /** Subgroups take turns at half a block of FP8's columns: fewer registers, and less code. */
  readonly short?: boolean;
}

/** Columns that are staged at a time, and that a subgroup takes before its next turn: of BF16 64 make a line of memory, of FP8 128. */
const STAGED_COLUMNS = 64;
const BLOCK_COLUMNS: Partial<Readonly<Record<WeightFormat, number>>> = { fp8: 128, bf16: 64 };

export function stripFormat(format: WeightFormat): boolean {
  return BLOCK_COLUMNS[format] !== undefined;
}

/** Whether each invocation has one result at most of 16 rows of activations and 16 or 32 of weights. */
export function writesOnce({ fragments, subgroups }: Pick<MatrixStrip, "fragments" | "subgroups">): boolean {
  return 32 * subgroups >= FRAGMENT * FRAGMENT * Math.min(2, fragments);
}

/** @throws RangeError for a format that there are no strips of */
export function stripConstants(
  { fragments, inputs, subgroups, lines = false, wholeInputs = false, short = false }: MatrixStrip,
  mode: MatrixMode,
  { format, stride }: { readonly format: WeightFormat; readonly stride: number },
): ShaderConstants {
  const blockColumns = short ? STAGED_COLUMNS : BLOCK_COLUMNS[format];
  if (blockColumns === undefined) throw new RangeError(`Cannot multiply strips of ${format}, expected fp8 or bf16`);
  const products = matrixProducts(mode);
  const steps = STAGED_COLUMNS / CHUNK;
  return {
    SUBGROUP_MATRIX: mode === "emulated" ? "emulated" : "hardware",
    STORED_OPERANDS: true,
    FRAGMENTS: fragments,
    WHOLE_LINES: lines,
    WHOLE_INPUTS: wholeInputs && mode !== "emulated",
    EARLY: writesOnce({ fragments, subgroups }),
    EARLY_RESULTS: false,
    STORED: Math.min(2, fragments),
    GROUPS: Math.ceil(fragments / 2),
    TOKEN_FRAGMENTS: inputs,
    STRIP_SUBGROUPS: subgroups,
    // What a maximum over a subgroup takes where there are none.
    ...(mode === "emulated" && format === "bf16" && { EMULATED_SUBGROUPS: subgroups }),
    STEPS: steps,
    PIECES: blockColumns / STAGED_COLUMNS,
    PRODUCTS: products,
    LOADS: (steps * FORMAT_BYTES[format]) / 2,
    X_FRAGMENTS: steps * products * inputs,
    RAGGED_STRIP: stride % (subgroups * blockColumns) !== 0,
  };
}

export function supportsStrip(gpu: GpuContext, { fragments, subgroups }: MatrixStrip, mode: MatrixMode): boolean {
  const { maxComputeWorkgroupStorageSize: memory, maxComputeInvocationsPerWorkgroup: invocations } = gpu.limits;
  // The rest: what the engine adds.
  const fits = subgroups * (fragments === 1 ? 2304 : 2560) + 64 <= memory && 32 * subgroups <= invocations;
  return fits && (mode === "emulated" || gpu.dialect.subgroupMatrix !== undefined);
}
