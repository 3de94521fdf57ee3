/**
 * Weight matrices on the GPU, in the checkpoint's own formats. Kernels read rows in 16-element chunks (shaders/lib/weights.wgsl), so a row takes a
 * multiple of 16 elements; what lies beyond the last column is zero.
 */
import type { GpuContext, ShaderConstants } from "@shoal/gpu";

export type WeightFormat = "fp8" | "bf16" | "f16" | "f32";

/** Elements handled together, and the rounding of every row, of weights and activations alike. */
export const CHUNK = 16;
/** Rows and columns that share a scale (DeepSeek-V3 inference/kernel.py). */
export const SCALE_BLOCK = 128;

/** Bytes an element takes. */
export const FORMAT_BYTES: Readonly<Record<WeightFormat, number>> = { fp8: 1, bf16: 2, f16: 2, f32: 4 };

/** Rows `rowStart .. rowStart + rows` of a matrix; a matrix larger than a binding may be has several parts. */
export interface WeightPart {
  readonly buffer: GPUBuffer;
  /** A multiple of 128. */
  readonly rowStart: number;
  readonly rows: number;
}

/** W [rows, cols], row-major, rows `stride` elements apart. */
export interface WeightMatrix {
  readonly format: WeightFormat;
  readonly rows: number;
  readonly cols: number;
  /** `cols` rounded up to 16. */
  readonly stride: number;
  readonly parts: readonly WeightPart[];
  /** weightScaleInv [ceil(rows / 128), ceil(cols / 128)] f32, which multiplies; for fp8 only. */
  readonly scales?: GPUBuffer;
}

export function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}

/** Bytes that a product with the whole matrix reads from it. */
export function matrixBytes(matrix: Pick<WeightMatrix, "format" | "rows" | "cols">): number {
  const { format, rows, cols } = matrix;
  const scales = format === "fp8" ? Math.ceil(rows / SCALE_BLOCK) * Math.ceil(cols / SCALE_BLOCK) * 4 : 0;
  return rows * cols * FORMAT_BYTES[format] + scales;
}

/** Constants that lib/weights.wgsl needs. */
export function formatConstants(gpu: GpuContext, format: WeightFormat): ShaderConstants {
  return { WEIGHT_FORMAT: format, FP8_DECODE: gpu.dialect.fp8Decode };
}

/** The workgroup size for reductions: one subgroup where that is known to be 16 to 64 wide, so that no barrier is needed. */
export function reductionConstants(gpu: GpuContext, preferred = 64): { readonly WORKGROUP: number; readonly SINGLE_SUBGROUP: boolean } {
  const { subgroups, subgroupSize } = gpu.dialect;
  const single = subgroups !== "none" && subgroupSize >= 16 && subgroupSize <= 64;
  return { WORKGROUP: single ? subgroupSize : preferred, SINGLE_SUBGROUP: single };
}

/** The workgroup size for reductions where one workgroup has a whole wide row to itself. */
export function rowConstants(gpu: GpuContext, cols: number): { readonly WORKGROUP: number; readonly SINGLE_SUBGROUP: boolean } {
  return cols > 1024 ? { WORKGROUP: 256, SINGLE_SUBGROUP: false } : reductionConstants(gpu);
}
