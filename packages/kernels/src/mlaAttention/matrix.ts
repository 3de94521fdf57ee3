/** Attention by subgroup matrices (shaders/mla/attention_matrix.wgsl). */
import type { GpuContext, ShaderConstants } from "@shoal/gpu";
import { kvRowBytes } from "../kvRow.ts";
import type { MatrixMode } from "../matrix/tiles.ts";
import type { AttentionShape, AttentionVariant } from "./variant.ts";

/** Rows, columns and depth of a fragment. */
const FRAGMENT = 16;
/** Invocations that weigh a head's scores, at most. */
const MOST_ROW_LANES = 8;
const VECTOR_BYTES = 16;

interface AttentionTile {
  readonly headFragments: 1 | 2;
  readonly positions: 16 | 32;
  /** They share the columns. */
  readonly subgroups: 4 | 8;
  /** Whether a tile's keys are loaded while the last one is multiplied, which takes registers. */
  readonly ahead: boolean;
}

const tile = (headFragments: 1 | 2, positions: 16 | 32, subgroups: 4 | 8, ahead: boolean): AttentionTile => ({
  headFragments,
  positions,
  subgroups,
  ahead,
});

const TILES = [
  tile(1, 32, 4, false),
  tile(1, 16, 4, true),
  tile(1, 16, 4, false),
  tile(1, 32, 4, true),
  tile(1, 16, 8, true),
  tile(2, 16, 8, true),
  tile(2, 16, 8, false),
];
/** For tests: those that workgroup memory of 32 KiB, or of 16, has room for. */
const TRIALS = [tile(1, 16, 4, true), tile(1, 32, 4, false), tile(1, 16, 8, false), tile(2, 16, 4, false)];

/** Shares of the largest result by which they may be wrong: the hardware cuts f32 sums off, and a score's error is one of all its weight. */
const TOLERANCES: Readonly<Record<Exclude<MatrixMode, "fast">, number>> = { matrix: 1e-4, emulated: 1e-5 };

/** Those that suit the shape, the best guess first. */
export function attentionMatrixVariants(shape: AttentionShape): readonly AttentionVariant[] {
  const fitting = TILES.filter(({ headFragments }) => headFragments === 1 || shape.nHeads > FRAGMENT);
  return suits(shape) ? fitting.map((item) => variant("matrix", item, shape)) : [];
}

/** To be had by name only. */
export function attentionMatrixTrials(shape: AttentionShape): readonly AttentionVariant[] {
  return suits(shape) ? TRIALS.map((item) => variant("emulated", item, shape)) : [];
}

/** f16 alone are operands as they are stored. */
function suits({ kvLoraRank, qkRopeHeadDim, format }: AttentionShape): boolean {
  return format === "f16" && kvLoraRank % FRAGMENT === 0 && qkRopeHeadDim % FRAGMENT === 0;
}

function variant(mode: keyof typeof TOLERANCES, item: AttentionTile, own: AttentionShape): AttentionVariant {
  const { headFragments, positions, subgroups, ahead } = item;
  const heads = FRAGMENT * headFragments;
  // Emulated ones stay where they are staged.
  const staged = mode === "emulated" ? 2 * headFragments : positions / FRAGMENT;
  return {
    name: `${mode}-${heads}x${positions}s${subgroups}${ahead ? "a" : ""}`,
    shader: "mla/attention_matrix.wgsl",
    groupHeads: heads,
    tolerance: TOLERANCES[mode],
    constants: {
      SUBGROUP_MATRIX: mode === "emulated" ? "emulated" : "hardware",
      OPERAND_STRIDES: true,
      HEAD_FRAGMENTS: headFragments,
      POSITIONS: positions,
      POSITION_FRAGMENTS: positions / FRAGMENT,
      ROW_LANES: rowLanes(item),
      PAIRS: positions / (2 * rowLanes(item)),
      QUERY_ROUNDS: (2 * headFragments) / staged,
      ROUND_MATRICES: staged,
      SUBGROUPS: subgroups,
      AHEAD: ahead,
    },
    shapeConstants: (shape) => shapeConstants(item, shape),
    supported: (gpu) => supportsTile(gpu, item, mode, own),
  };
}

function rowLanes({ headFragments, subgroups }: AttentionTile): number {
  return Math.min(MOST_ROW_LANES, (32 * subgroups) / (FRAGMENT * headFragments));
}

function shapeConstants(item: AttentionTile, shape: AttentionShape): ShaderConstants {
  const { positions, subgroups } = item;
  const { kvLoraRank, qkRopeHeadDim } = shape;
  const threads = 32 * subgroups;
  const width = kvLoraRank + qkRopeHeadDim;
  const octets = width / 8;
  const chunks = width / FRAGMENT;
  const lanes = Math.max(8, threads / positions);
  return {
    CACHE_ROW: kvRowBytes(shape, "f16") / VECTOR_BYTES,
    KEY_LANES: lanes,
    KEY_LOADS: Math.ceil(octets / lanes),
    KEY_TURNS: (positions * lanes) / threads,
    RAGGED_KEYS: octets % lanes !== 0,
    QUERY_LOADS: Math.ceil(octets / rowLanes(item)),
    SCORE_CHUNKS: Math.ceil(chunks / subgroups),
    RAGGED_SCORES: chunks % subgroups !== 0,
    VALUE_CHUNKS: Math.ceil(kvLoraRank / FRAGMENT / subgroups),
    RAGGED_VALUES: (kvLoraRank / FRAGMENT) % subgroups !== 0,
  };
}

/** Whether the device has the matrices and room for the tile. */
function supportsTile(
  { limits, dialect }: GpuContext,
  { headFragments, positions, subgroups }: AttentionTile,
  mode: keyof typeof TOLERANCES,
  { kvLoraRank, qkRopeHeadDim }: AttentionShape,
): boolean {
  const heads = FRAGMENT * headFragments;
  const threads = 32 * subgroups;
  const rowVectors = (kvLoraRank + qkRopeHeadDim) / 8 + 1;
  const sums = subgroups * heads * (Math.max(positions / 4, positions / 8 + 4) + 1);
  const emulated = mode === "emulated" ? 2 * heads * rowVectors + threads / 4 : 0;
  const bytes = (positions * rowVectors + sums + emulated) * VECTOR_BYTES + heads * 4;
  // The rest: what the engine adds.
  const fits = bytes + 64 <= limits.maxComputeWorkgroupStorageSize && threads <= limits.maxComputeInvocationsPerWorkgroup;
  return fits && (mode === "emulated" || (dialect.subgroupMatrix !== undefined && dialect.subgroups !== "none"));
}
