/** Rows split into pairs of f16 numbers, for products by subgroup matrices (shaders/matrix/halves.wgsl). */
import type { BufferRange, Dispatch, GpuContext, ShaderConstants } from "@shoal/gpu";
import { CHUNK, type WeightFormat, roundUp } from "../weights.ts";

/** Columns that tiles take at a time, at most. */
export const MOST_TILE_COLUMNS = 64;
const WORKGROUP = 128;
/** A dimension of a grid holds so many workgroups, everywhere. */
const GRID_ROWS = 65_535;

export interface HalvesShape {
  readonly rows: number;
  /** Before rounding up. */
  readonly columns: number;
}

export interface HalvesSpec extends HalvesShape {
  /** x [rows, xStride] f32, from column `xOffset` on; multiples of 4. */
  readonly x: GPUBuffer | BufferRange;
  readonly xStride: number;
  readonly xOffset?: number;
  /** Of the weights that it will be multiplied with: decides the order of columns. */
  readonly format: WeightFormat;
  /** At least `halvesBytes` bytes. */
  readonly halves: GPUBuffer;
  readonly label: string;
}

function octets(columns: number): number {
  return roundUp(columns, MOST_TILE_COLUMNS) / 8;
}

/** Bytes that rows take: two halves a number, and a power of two a row. */
export function halvesBytes({ rows, columns }: HalvesShape): number {
  return (2 * rows * octets(columns) + rows) * 16;
}

/** Constants of lib/matrix_halves.wgsl. */
export function halvesConstants({ rows, columns }: HalvesShape): ShaderConstants {
  return { HALVES_ROWS: rows, HALVES_OCTETS: octets(columns) };
}

/** @throws RangeError if the buffer is too small */
export async function splitHalves(gpu: GpuContext, spec: HalvesSpec): Promise<Dispatch> {
  const { x, xStride, xOffset = 0, rows, columns, format, halves, label } = spec;
  const bytes = halvesBytes(spec);
  if (halves.size < bytes)
    throw new RangeError(`Cannot split ${rows} rows of ${columns}: the buffer has ${halves.size} bytes, expected ${bytes}`);
  const kernel = await gpu.kernel(
    "matrix/halves.wgsl",
    {
      ...halvesConstants(spec),
      X_STRIDE: xStride,
      X_OFFSET: xOffset,
      OCTETS: roundUp(columns, CHUNK) / 8,
      PERMUTED: format === "fp8",
      WORKGROUP,
    },
    label,
  );
  const grid = [Math.min(rows, GRID_ROWS), Math.ceil(rows / GRID_ROWS), 1] as const;
  return kernel.dispatch({ x, halves }, grid, { bytes: rows * columns * 8, flops: 4 * rows * columns }, label);
}

/** A buffer for such rows. */
export function halvesBuffer(gpu: GpuContext, shape: HalvesShape): GPUBuffer {
  return gpu.buffer({ label: "halves", size: halvesBytes(shape), kind: "activations" });
}
