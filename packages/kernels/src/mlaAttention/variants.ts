/** How attention is blocked. */
import type { GpuContext } from "@shoal/gpu";
import { SMALLEST_TEAM, sizeClass } from "../rowTeams.ts";
import { chooseVariant } from "../variants.ts";
import { CHUNK, roundUp } from "../weights.ts";
import { attentionMatrixTrials, attentionMatrixVariants } from "./matrix.ts";
import type { AttentionShape, AttentionVariant } from "./variant.ts";

/** Runs anywhere, and compiles in a second where the tiled ones take six on software adapters. */
const PLAIN: AttentionVariant = {
  name: "plain",
  shader: "mla/attention.wgsl",
  groupHeads: 4,
  constants: { QUADS: 1, POSITIONS: 2 },
  shapeConstants: ({ kvLoraRank }) => {
    const workgroup = kvLoraRank > 256 ? 128 : 64;
    return { WORKGROUP: workgroup, VECTORS: Math.ceil((Math.ceil(kvLoraRank / CHUNK) * 4) / workgroup) };
  },
};

/** Vectors of a row that a lane of lanes() has for all its heads together: more are slow to compile. */
const MOST_LANE_VECTORS = 24;

/** A subgroup a workgroup, without barriers: what software adapters should start with, where their subgroups' size is known. */
function lanes(gpu: GpuContext, { nHeads, kvLoraRank, qkRopeHeadDim }: AttentionShape): AttentionVariant {
  const size = Math.max(1, gpu.dialect.subgroupSize);
  const vectors = Math.ceil(Math.max(Math.ceil((kvLoraRank + qkRopeHeadDim) / 4), Math.ceil(kvLoraRank / CHUNK) * 4) / size);
  const heads = [3, 2].find((count) => nHeads % count === 0 && count * vectors <= MOST_LANE_VECTORS) ?? 1;
  return {
    name: "lanes",
    shader: "mla/attention_lanes.wgsl",
    groupHeads: heads,
    constants: { GROUP_HEADS: heads, LANES: size },
    shapeConstants: () => ({ VECTORS: vectors }),
    supported: ({ dialect }) => dialect.subgroups !== "none" && dialect.subgroupSize >= SMALLEST_TEAM,
  };
}

/** Invocations that have a workgroup's columns of the values, each VECTORS times four. */
const VALUE_LANES = 128;

/** Heads by positions of a workgroup, and the rounds in which the scores' slices are added: more rounds take less workgroup memory. */
function tiled(heads: number, positions: 32 | 64, rounds: 1 | 2 | 4): AttentionVariant {
  const invocations = (heads * positions) / 4;
  // Slices' sums; weights; decay; rows.
  const memory = (heads * positions * 32) / rounds + heads * positions * 4 + heads * 4 + positions * 4;
  return {
    name: `${heads}x${positions}r${rounds}`,
    shader: "mla/attention_tiled.wgsl",
    groupHeads: heads,
    constants: { GROUP_HEADS: heads, TILE: positions, ROUNDS: rounds },
    shapeConstants: ({ nHeads, kvLoraRank }) => ({
      VECTORS: Math.ceil((Math.ceil(kvLoraRank / CHUNK) * 4) / VALUE_LANES),
      WHOLE_GROUPS: nHeads % heads === 0,
    }),
    supported: ({ limits }) =>
      limits.maxComputeWorkgroupStorageSize >= memory &&
      limits.maxComputeInvocationsPerWorkgroup >= invocations &&
      limits.maxComputeWorkgroupSizeX >= invocations,
  };
}

/** 16x64r4, 16x32r2 and 8x64r4 run anywhere. */
const TILED = [
  tiled(16, 64, 1),
  tiled(16, 64, 4),
  tiled(32, 64, 2),
  tiled(32, 64, 4),
  tiled(32, 32, 1),
  tiled(32, 32, 2),
  tiled(16, 32, 1),
  tiled(16, 32, 2),
  tiled(8, 64, 4),
];

/** Fewer heads leave most of a fragment of a matrix empty. */
const MATRIX_HEADS = 16;

/** Those that make sense for the shape, the best guess for the device first. */
export function mlaAttentionVariants(gpu: GpuContext, shape: AttentionShape): readonly AttentionVariant[] {
  const sensible = TILED.filter(({ groupHeads }) => groupHeads <= roundUp(shape.nHeads, 8));
  if (gpu.adapter.isSoftware) return [lanes(gpu, shape), PLAIN, ...sensible];
  return [...(shape.nHeads >= MATRIX_HEADS ? attentionMatrixVariants(shape) : []), ...sensible, PLAIN, lanes(gpu, shape)];
}

/** To be had by name only. */
export function mlaAttentionTrials(shape: AttentionShape): readonly AttentionVariant[] {
  return attentionMatrixTrials(shape);
}

/** Up to so many tokens a step's attention is one of decoding, bound by the cache; beyond it is a prompt's, bound by arithmetic. */
const FEW_TOKENS = 4;

/** @throws RangeError if one is asked for that the device cannot run */
export function mlaAttentionVariant(gpu: GpuContext, shape: AttentionShape, tokens: number, asked?: string): AttentionVariant {
  const operation = `mlaAttention/${sizeClass(shape.nHeads)}/${tokens <= FEW_TOKENS ? "few" : "many"}`;
  const variants = mlaAttentionVariants(gpu, shape);
  return chooseVariant(gpu, operation, asked === undefined ? variants : [...variants, ...mlaAttentionTrials(shape)], asked);
}
