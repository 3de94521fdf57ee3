/** What a shader that multiplies with many vectors is, and what it is chosen by. */
import type { GpuContext, ShaderConstants } from "@shoal/gpu";
import type { Variant } from "../variants.ts";
import type { WeightFormat } from "../weights.ts";

export interface MatmulVariant extends Variant {
  readonly shader: string;
  /** Rows of the matrix and tokens that a workgroup computes: grids are made of them. */
  readonly tileRows: number;
  readonly tileTokens: number;
  /**
   * Workgroups that share rows come one after another, so that rows are read from memory once: a grid of tokens by rows. Otherwise it is
   * one of rows by tokens.
   */
  readonly tokensFirst?: boolean;
  /** x is split first, into `MatmulSpec.halves`; "blocks": in blocks of 16 rows. */
  readonly halves?: boolean | "blocks";
  /** Of strips: whether an invocation has one result at most, so that what that is added to can be loaded before the products. */
  readonly earlyResults?: boolean;
  /** f16 numbers that x is then the sum of. */
  readonly products?: 1 | 2;
  /** Share of the largest result by which sums of 300 products may be wrong, where that is more than f32 sums in loops are. */
  readonly tolerance?: number;
  /** Constants that depend on the device, and on the stored rows. */
  readonly deviceConstants?: (gpu: GpuContext, rows: StoredRows) => ShaderConstants;
}

/** Of weights. */
export interface StoredRows {
  readonly format: WeightFormat;
  /** Elements from one row to the next. */
  readonly stride: number;
}

export interface MatmulShape {
  readonly format: WeightFormat;
  readonly rows: number;
  readonly tokens: number;
}
