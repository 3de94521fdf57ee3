/** A step's (token, slot) pairs sorted by expert and cut into tiles, on the GPU (shaders/experts/group_tokens.wgsl). */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import type { Step } from "../batch.ts";

/** An integer for each expert lies in workgroup memory. */
const MAX_EXPERTS = 1408;

export interface TileCounts {
  readonly maxTokens: number;
  readonly slots: number;
  readonly experts: number;
  readonly tileRows: number;
}

export interface ExpertTiles {
  /** The most tiles that so many tokens can need, whatever their routing. */
  readonly maxTiles: number;
  /** Size of `tiles`. */
  readonly tilesBytes: number;
  /** Size of `rows`. */
  readonly rowsBytes: number;
}

/** An expert with rows needs at most (tileRows - 1) / tileRows of a tile more than its share. */
export function expertTiles({ maxTokens, slots, experts, tileRows }: TileCounts): ExpertTiles {
  const rows = maxTokens * slots;
  const maxTiles = Math.floor((rows + Math.min(experts, rows) * (tileRows - 1)) / tileRows);
  return { maxTiles, tilesBytes: (1 + maxTiles) * 16, rowsBytes: rows * 4 };
}

/** What the tiled products read. */
export interface ExpertGrouping {
  readonly tiles: GPUBuffer;
  readonly rows: GPUBuffer;
  /** Rows that a tile has at most. */
  readonly tileRows: number;
}

export interface GroupTokensSpec extends ExpertGrouping {
  /** [tokens, slots] of (expert, weight as f32 bits). */
  readonly routing: GPUBuffer;
  readonly slots: number;
  /** Experts in the group. */
  readonly experts: number;
  readonly tokens: number;
  /** Tokens that `tiles` and `rows` have room for. */
  readonly maxTokens: number;
  readonly step: Step;
  readonly label?: string;
}

/** @throws RangeError if there are too many experts, or a buffer is too small. */
export async function groupTokens(gpu: GpuContext, spec: GroupTokensSpec): Promise<readonly Dispatch[]> {
  const { routing, slots, experts, tiles, rows, tileRows, tokens, maxTokens, step, label = "group tokens" } = spec;
  if (experts > MAX_EXPERTS) throw new RangeError(`Cannot group tokens by ${experts} experts, expected at most ${MAX_EXPERTS}`);
  const { tilesBytes, rowsBytes } = expertTiles({ maxTokens, slots, experts, tileRows });
  if (tokens > maxTokens || tiles.size < tilesBytes || rows.size < rowsBytes)
    throw new RangeError(
      `Cannot group ${tokens} tokens: tiles and rows take ${tiles.size} and ${rows.size} bytes, expected ${tilesBytes} and ${rowsBytes} for ${maxTokens}`,
    );
  const kernel = await gpu.kernel(
    "experts/group_tokens.wgsl",
    { MAX_TOKENS: step.maxTokens, SLOTS: slots, EXPERTS: experts, TILE_ROWS: tileRows },
    label,
  );
  return [kernel.dispatch({ batch: step.batch, routing, rows, tiles }, [experts, 1, 1], {}, label)];
}
