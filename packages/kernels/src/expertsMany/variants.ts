/** The shaders of the experts' tiled products, and which of them suits a tile. */
import type { GpuContext, ShaderConstants } from "@shoal/gpu";
import type { Variant } from "../variants.ts";
import type { WeightFormat } from "../weights.ts";

export interface ExpertsManyVariant extends Variant {
  readonly shader: string;
  /** Rows of weights (with gate-up: half of them gate's) that a workgroup computes: grids are made of them. */
  readonly weightRows: number;
  /** Rows of a tile that it takes. */
  readonly tileRows: readonly number[];
  /** Formats that it takes; all, where absent. */
  readonly formats?: readonly WeightFormat[];
  /** Constants that depend on the device. */
  readonly deviceConstants?: (gpu: GpuContext) => ShaderConstants;
}

export interface ExpertsManyShape {
  readonly gateUp: boolean;
  readonly format: WeightFormat;
  /** Of the grouping. */
  readonly tileRows: number;
}

/** Rows of weights that an invocation of many.wgsl multiplies with. */
const ROWS_PER_INVOCATION = 8;

/** Tiles of 4 to 64 rows; needs more workgroup memory the wider it is, the narrowest runs anywhere. */
function tile(threads: number, tileRows: number): ExpertsManyVariant {
  const weightRows = threads * ROWS_PER_INVOCATION;
  const bytes = (weightRows + tileRows) * 9 * 16 + tileRows * 4;
  return {
    name: `tile-${weightRows}`,
    shader: "experts/many.wgsl",
    weightRows,
    tileRows: [4, 8, 16, 32, 64],
    constants: { THREADS_X: threads },
    supported: (gpu) => bytes <= gpu.limits.maxComputeWorkgroupStorageSize,
  };
}

/** All that can multiply tiles of such a height, the one that should be fastest first. */
export function expertsManyVariants({ format, tileRows }: ExpertsManyShape): readonly ExpertsManyVariant[] {
  const all = [tile(16, tileRows), tile(8, tileRows), tile(4, tileRows)];
  return all.filter((variant) => variant.tileRows.includes(tileRows) && (variant.formats?.includes(format) ?? true));
}

/** The key of tuning tables. */
export function expertsManyOperation({ gateUp, format, tileRows }: ExpertsManyShape): string {
  return `${gateUp ? "expertsGateUpMany" : "expertsDownMany"}/${format}/${tileRows}`;
}
