/** A step's (token, slot) pairs sorted by expert and cut into tiles, on the GPU (shaders/experts/group_tokens.wgsl). */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import type { Step } from "../batch.ts";
import { type HalvesLayout, type HalvesRows, halvesOctets, halvesOutputConstants, sameLayout } from "../matrix/halves.ts";
import { SCALE_BLOCK } from "../weights.ts";
import { FRAGMENT } from "../matrix/strips.ts";

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
  /** Blocks of 16 rows among which those of the tiles are, where `gateMany` placed them; otherwise a tile's block has the tile's number. */
  readonly blocks?: number;
}

/** Blocks of 16 rows, where each expert has as many to itself as all tokens may fill. */
export function ownBlocks({ tokens, experts }: { readonly tokens: number; readonly experts: number }): number {
  return experts * Math.ceil(tokens / FRAGMENT);
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
  /** Copies halves of the tokens' rows to where the tiles' rows are wanted; only with tiles of 16 rows at most. */
  readonly gather?: GatheredHalves | undefined;
  readonly label?: string;
}

export interface GatheredHalves {
  /** [tokens, columns], not in blocks. */
  readonly from: HalvesRows;
  /** [16 tiles, columns], in blocks: row r is row r % 16 of tile r / 16. */
  readonly to: HalvesRows;
  /** Settles the powers of two of what gate and up make of the rows, for `expertsGateUpMany` to write it as halves; `from` was written by `normOperands`. */
  readonly hidden?: HiddenHalves | undefined;
}

export interface HiddenHalves {
  /** As `hiddenLayout` has them: their powers of two are written. */
  readonly rows: HalvesRows;
  /** Of gate and up, [experts, 2, ceil(width / 128), ceil(columns / 128)] f32. */
  readonly scales: GPUBuffer;
}

/** Workgroups that share the columns of an expert's rows. */
const GATHER_PARTS = 4;
/** Octets that an invocation has under way at once. */
const COPIES = 4;

/** @throws RangeError if there are too many experts, or a buffer is too small. */
export async function groupTokens(gpu: GpuContext, spec: GroupTokensSpec): Promise<readonly Dispatch[]> {
  const { routing, slots, experts, tiles, rows, tileRows, tokens, maxTokens, step, label = "group tokens" } = spec;
  if (experts > MAX_EXPERTS) throw new RangeError(`Cannot group tokens by ${experts} experts, expected at most ${MAX_EXPERTS}`);
  const { tilesBytes, rowsBytes } = expertTiles({ maxTokens, slots, experts, tileRows });
  if (tokens > maxTokens || tiles.size < tilesBytes || rows.size < rowsBytes)
    throw new RangeError(
      `Cannot group ${tokens} tokens: tiles and rows take ${tiles.size} and ${rows.size} bytes, expected ${tilesBytes} and ${rowsBytes} for ${maxTokens}`,
    );
  const gather = spec.gather && gatherParts(spec, spec.gather);
  const kernel = await gpu.kernel(
    "experts/group_tokens.wgsl",
    { MAX_TOKENS: step.maxTokens, SLOTS: slots, EXPERTS: experts, TILE_ROWS: tileRows, GATHER: gather !== undefined, ...gather?.constants },
    label,
  );
  const grid = [experts, gather ? GATHER_PARTS : 1, 1] as const;
  return [kernel.dispatch({ batch: step.batch, routing, rows, tiles, ...gather?.buffers }, grid, {}, label)];
}

/** @throws RangeError if the halves do not go together */
function gatherParts({ tokens, tileRows }: GroupTokensSpec, { from, to, hidden }: GatheredHalves) {
  const octets = halvesOctets(to.layout.columns);
  const asInBlocks: HalvesLayout = { ...from.layout, blocks: true, rows: to.layout.rows };
  const alike = sameLayout(asInBlocks, to.layout);
  if (!alike || from.layout.blocks === true || from.layout.rows !== tokens || tileRows > FRAGMENT)
    throw new RangeError(`Cannot gather ${JSON.stringify(from.layout)} as ${JSON.stringify(to.layout)} for tiles of ${tileRows} rows`);
  if (hidden && hidden.rows.layout.rows !== to.layout.rows)
    throw new RangeError(`Cannot settle powers of two for ${hidden.rows.layout.rows} rows, expected ${to.layout.rows}`);
  const gathered = { ...halvesOutputConstants(to.layout), FROM_ROWS: tokens, GATHER_OCTETS: Math.ceil(octets / GATHER_PARTS), COPIES };
  const buffers = { token_halves: from.buffer, halves: to.buffer };
  if (!hidden) return { constants: { ...gathered, HIDDEN: false }, buffers };
  const constants = { ...gathered, HIDDEN: true, ...hiddenConstants(to, hidden) };
  return { constants, buffers: { ...buffers, scales: hidden.scales, hidden: hidden.rows.buffer } };
}

/** Of whoever settles the powers of two of `hidden`, made of the rows of `to`. */
export function hiddenConstants({ layout: { columns: inputs } }: HalvesRows, { rows: { layout } }: HiddenHalves) {
  return {
    SCALES: Math.ceil(layout.columns / SCALE_BLOCK) * Math.ceil(inputs / SCALE_BLOCK),
    INPUTS: inputs,
    HIDDEN_POWERS: 2 * layout.rows * halvesOctets(layout.columns),
  };
}
