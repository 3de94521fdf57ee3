/** How high tiles of rows that share an expert should be. */
import type { GpuContext } from "@shoal/gpu";

export interface ExpertRows {
  readonly tokens: number;
  /** Experts that each token takes, of so many. */
  readonly slots: number;
  readonly experts: number;
}

/** No tile is lower: buffers for tiles of this height have room for all others. */
export const LOWEST_EXPERT_TILE = 8;

/** Workgroup memory that blocks of 128 rows of weights and as many of a tile take. */
const HIGHEST_TILE_BYTES = 32 * 1024;
/** Rows an expert from which such blocks are worth it. */
const MANY_ROWS = 256;
/** What software adapters do best with, whose caches make reading weights again cheap. */
const SOFTWARE_TILE = 16;

/**
 * High enough for nearly all experts, for a second tile reads the weights again, and hardly higher, for what a tile has no rows for is room
 * taken from other workgroups. Rows scatter about their mean by its root where a router chooses; where all tokens take all experts they do
 * not.
 */
export function expertTileRows(gpu: GpuContext, { tokens, slots, experts }: ExpertRows): number {
  if (gpu.adapter.isSoftware) return SOFTWARE_TILE;
  const mean = (tokens * slots) / experts;
  if (mean >= MANY_ROWS && gpu.limits.maxComputeWorkgroupStorageSize >= HIGHEST_TILE_BYTES) return 128;
  const wanted = slots < experts ? mean + 2 * Math.sqrt(mean) : mean;
  return [LOWEST_EXPERT_TILE, 16, 32].find((height) => wanted <= height) ?? 64;
}
