/** The shaders that multiply with many vectors, and which of them suits a shape. */
import type { GpuContext, ShaderConstants } from "@shoal/gpu";
import type { Variant } from "../variants.ts";
import type { WeightFormat } from "../weights.ts";

export interface MatmulVariant extends Variant {
  readonly shader: string;
  /** Rows of the matrix and tokens that a workgroup computes: grids are made of them. */
  readonly tileRows: number;
  readonly tileTokens: number;
  /** Formats that it takes; all, where absent. */
  readonly formats?: readonly WeightFormat[];
  /** Constants that depend on the device. */
  readonly deviceConstants?: (gpu: GpuContext) => ShaderConstants;
}

export interface MatmulShape {
  readonly format: WeightFormat;
  readonly rows: number;
  readonly tokens: number;
}

/** Runs anywhere: 64 rows and 32 or 64 tokens in 12 or 16 KiB of workgroup memory. */
function tile(tokensPerThread: number): MatmulVariant {
  return {
    name: `tile-64x${8 * tokensPerThread}`,
    shader: "matmul/matmul.wgsl",
    tileRows: 64,
    tileTokens: 8 * tokensPerThread,
    constants: { TOKENS_PER_THREAD: tokensPerThread },
  };
}

const TILE_64X32 = tile(4);
const TILE_64X64 = tile(8);

/** All that can multiply with such a matrix, the one that should be fastest first. Any of them is right for any number of rows and tokens. */
export function matmulVariants({ format, tokens }: MatmulShape): readonly MatmulVariant[] {
  const ordered = tokens <= 32 ? [TILE_64X32, TILE_64X64] : [TILE_64X64, TILE_64X32];
  return ordered.filter(({ formats }) => formats?.includes(format) ?? true);
}

/** The key of tuning tables. */
export function matmulOperation({ format, tokens }: MatmulShape): string {
  return `matmul/${format}/${tokens <= 64 ? "batch" : "prefill"}`;
}
