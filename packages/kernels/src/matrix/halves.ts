/** Rows split into pairs of f16 numbers, for products by subgroup matrices (shaders/matrix/halves.wgsl). */
import type { BufferRange, Dispatch, GpuContext, ShaderConstants } from "@shoal/gpu";
import { CHUNK, type WeightFormat, roundUp } from "../weights.ts";

/** Columns that tiles take at a time, at most. */
export const MOST_TILE_COLUMNS = 128;
const WORKGROUP = 128;
/** A dimension of a grid holds so many workgroups, everywhere. */
const GRID_ROWS = 65_535;

export interface HalvesShape {
  readonly rows: number;
  /** Before rounding up. */
  readonly columns: number;
  /** 16 rows and 16 columns in one piece, as strips (strips.ts) read them. Rows are rounded up to 16. */
  readonly blocks?: boolean;
}

/** How a product wants its input, of whoever writes it. */
export interface HalvesLayout extends HalvesShape {
  /** Of the weights that it will be multiplied with: decides the order of columns. */
  readonly format: WeightFormat;
  /** 1: numbers rounded to f16; 2: beside them what rounding lost. */
  readonly products: 1 | 2;
}

/** Such rows. */
export interface HalvesRows {
  /** At least `halvesBytes` bytes. */
  readonly buffer: GPUBuffer;
  readonly layout: HalvesLayout;
}

/** Rows gathered for tiles of up to 16: row r of the halves is row r % 16 of tile r / 16, and made of row rows[first of the tile + r % 16] / slots of x. */
export interface HalvesTiles {
  readonly tiles: GPUBuffer;
  readonly rows: GPUBuffer;
  readonly slots: number;
}

export interface HalvesSpec extends HalvesLayout {
  /** x [rows, xStride] f32, from column `xOffset` on; multiples of 4. */
  readonly x: GPUBuffer | BufferRange;
  readonly xStride: number;
  readonly xOffset?: number;
  /** At least `halvesBytes` bytes. */
  readonly halves: GPUBuffer;
  /** Only with `blocks`; `rows` is 16 times as many as there may be tiles. */
  readonly gathered?: HalvesTiles;
  readonly label: string;
}

/** Pieces of eight columns that a row takes, zero beyond its columns. */
export function halvesOctets(columns: number): number {
  return roundUp(columns, MOST_TILE_COLUMNS) / 8;
}

/** Bytes that rows take: two halves a number, and a power of two a row. */
export function halvesBytes(shape: HalvesShape): number {
  const rows = storedRows(shape);
  return (2 * rows * halvesOctets(shape.columns) + rows) * 16;
}

function storedRows({ rows, blocks = false }: HalvesShape): number {
  return blocks ? roundUp(rows, 16) : rows;
}

/** Constants of lib/matrix_halves.wgsl. */
export function halvesConstants(shape: HalvesShape): ShaderConstants {
  return { HALVES_ROWS: storedRows(shape), HALVES_OCTETS: halvesOctets(shape.columns) };
}

/** Constants of lib/write_halves.wgsl. */
export function halvesOutputConstants(layout: HalvesLayout): ShaderConstants {
  const { format, products, blocks = false } = layout;
  return { ...halvesConstants(layout), PERMUTED: format === "fp8", HALVES_BLOCKS: blocks, HALVES_PRODUCTS: products };
}

/** Whether rows that lie in one way lie in the other. */
export function sameLayout(a: HalvesLayout, b: HalvesLayout): boolean {
  const alike = (key: keyof HalvesLayout): boolean => a[key] === b[key];
  const shapes = halvesOctets(a.columns) === halvesOctets(b.columns) && (a.blocks ?? false) === (b.blocks ?? false);
  return shapes && alike("rows") && alike("format") && alike("products");
}

/** @throws RangeError if the buffer is too small */
export async function splitHalves(gpu: GpuContext, spec: HalvesSpec): Promise<Dispatch> {
  const { x, xStride, xOffset = 0, rows, columns, products, gathered, halves, label } = spec;
  const bytes = halvesBytes(spec);
  if (halves.size < bytes)
    throw new RangeError(`Cannot split ${rows} rows of ${columns}: the buffer has ${halves.size} bytes, expected ${bytes}`);
  const kernel = await gpu.kernel(
    "matrix/halves.wgsl",
    {
      ...halvesOutputConstants(spec),
      X_STRIDE: xStride,
      X_OFFSET: xOffset,
      OCTETS: roundUp(columns, CHUNK) / 8,
      SPLIT_ROWS: rows,
      ...(gathered && { TILED: true, TILE_SLOTS: gathered.slots }),
      WORKGROUP,
    },
    label,
  );
  const grid = [Math.min(rows, GRID_ROWS), Math.ceil(rows / GRID_ROWS), 1] as const;
  const tiles = gathered && { tiles: gathered.tiles, rows: gathered.rows };
  return kernel.dispatch({ x, halves, ...tiles }, grid, { bytes: rows * columns * (4 + 2 * products), flops: 4 * rows * columns }, label);
}

/** A buffer for such rows, in blocks or not. */
export function halvesBuffer(gpu: GpuContext, shape: HalvesShape): GPUBuffer {
  return gpu.buffer({ label: "halves", size: halvesBytes({ ...shape, blocks: true }), kind: "activations" });
}
