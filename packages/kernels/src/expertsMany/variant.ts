/** What a shader of the experts' tiled products is, and what it is chosen by. */
import type { GpuContext, ShaderConstants } from "@shoal/gpu";
import type { Variant } from "../variants.ts";
import type { WeightFormat } from "../weights.ts";

export interface ExpertsManyVariant extends Variant {
  readonly shader: string;
  /** Rows of weights (with gate-up: half of them gate's) that a workgroup computes: grids are made of them. */
  readonly weightRows: number;
  /** Rows of a tile that it takes. */
  readonly tileRows: readonly number[];
  /** The input is split first, into the spec's `halves`; "tiled": in the order of the tiles, in blocks. */
  readonly halves?: boolean | "tiled";
  /** Workgroups that follow each other have other tiles, not other rows of weights: tiles of few rows and full ones run side by side. */
  readonly tilesFirst?: boolean;
  /** f16 numbers that it is then the sum of. */
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

export interface ExpertsManyShape {
  readonly gateUp: boolean;
  readonly format: WeightFormat;
  /** Of the grouping. */
  readonly tileRows: number;
  /** Each token takes all experts: a few tiles, full ones. */
  readonly fixed?: boolean;
}
