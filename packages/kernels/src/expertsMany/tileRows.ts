/** How high tiles of rows that share an expert should be. */
import type { GpuContext } from "@shoal/gpu";

export interface ExpertRows {
  readonly tokens: number;
  /** Experts that each token takes, of so many. */
  readonly slots: number;
  readonly experts: number;
  /** There is room to split the input for subgroup matrices. */
  readonly halves?: boolean;
}

/** No tile is lower: buffers for tiles of this height have room for all others. */
export const LOWEST_EXPERT_TILE = 8;

/** Workgroup memory that blocks of 128 rows of weights and as many of a tile take. */
const HIGHEST_TILE_BYTES = 32 * 1024;
/** Rows an expert from which such blocks are worth it. */
const MANY_ROWS = 256;
/** Of batches that run on strips of subgroup matrices (matrix.ts): whose fragments have so many rows, full or not. */
const STRIP_TILE = 16;
/** Rows an expert from which they are worth it, and tokens up to which there is room for their input. */
const STRIP_ROWS = 2.5;
const STRIP_TOKENS = 64;
/** What software adapters do best with, whose caches make reading weights again cheap. */
const SOFTWARE_TILE = 16;

/**
 * High enough for nearly all experts, for a second tile reads the weights again, and hardly higher, for what a tile has no rows for is room
 * taken from other workgroups. Rows scatter about their mean by its root where a router chooses; where all tokens take all experts they do
 * not.
 */
export function expertTileRows(gpu: GpuContext, rows: ExpertRows): number {
  if (gpu.adapter.isSoftware) return SOFTWARE_TILE;
  if (rows.halves === true && gpu.dialect.subgroupMatrix && takesStrips(rows)) return STRIP_TILE;
  const mean = (rows.tokens * rows.slots) / rows.experts;
  if (mean >= MANY_ROWS && gpu.limits.maxComputeWorkgroupStorageSize >= HIGHEST_TILE_BYTES) return 128;
  const wanted = wantedRows(rows);
  return [LOWEST_EXPERT_TILE, 16, 32].find((height) => wanted <= height) ?? 64;
}

/** Rows of nearly all experts. */
function wantedRows({ tokens, slots, experts }: ExpertRows): number {
  const mean = (tokens * slots) / experts;
  return slots < experts ? mean + 2 * Math.sqrt(mean) : mean;
}

function takesStrips(rows: ExpertRows): boolean {
  const { tokens, slots, experts } = rows;
  // Tiles of experts that all tokens take come one after the other, while caches still have the weights.
  return tokens <= STRIP_TOKENS && tokens * slots >= STRIP_ROWS * experts && (slots === experts || wantedRows(rows) <= STRIP_TILE);
}

/** The largest batch that takes strips, in tokens; 0 where none does. */
export function mostStripTokens({ tokens, slots, experts }: ExpertRows): number {
  for (let some = Math.min(tokens, STRIP_TOKENS); some > 0; some--) if (takesStrips({ tokens: some, slots, experts })) return some;
  return 0;
}
