/** How attention is blocked. */
import type { GpuContext, ShaderConstants } from "@shoal/gpu";
import type { MlaShape } from "../mla.ts";
import { sizeClass } from "../rowTeams.ts";
import { type Variant, chooseVariant } from "../variants.ts";
import { CHUNK, roundUp } from "../weights.ts";

export interface AttentionVariant extends Variant {
  readonly shader: string;
  /** Heads that share a workgroup's loads of the cache: grids are made of them. */
  readonly groupHeads: number;
  /** Constants that depend on the shape. */
  readonly shapeConstants: (shape: MlaShape) => ShaderConstants;
}

/** Runs anywhere, and compiles in a second where the tiled ones take six: on software adapters. */
const PLAIN: AttentionVariant = {
  name: "plain",
  shader: "mla/attention.wgsl",
  groupHeads: 4,
  constants: { GROUP_HEADS: 4, POSITIONS: 2 },
  shapeConstants: ({ kvLoraRank }) => {
    const workgroup = kvLoraRank > 256 ? 128 : 64;
    return { WORKGROUP: workgroup, VECTORS: Math.ceil((Math.ceil(kvLoraRank / CHUNK) * 4) / workgroup) };
  },
};

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

/** Those that make sense for the shape, the best guess for the device first. */
export function mlaAttentionVariants(gpu: GpuContext, { nHeads }: Pick<MlaShape, "nHeads">): readonly AttentionVariant[] {
  const sensible = TILED.filter(({ groupHeads }) => groupHeads <= roundUp(nHeads, 8));
  return gpu.adapter.isSoftware ? [PLAIN, ...sensible] : [...sensible, PLAIN];
}

/** Up to so many tokens a step's attention is one of decoding, bound by the cache; beyond it is a prompt's, bound by arithmetic. */
const FEW_TOKENS = 4;

/** @throws RangeError if one is asked for that the device cannot run */
export function mlaAttentionVariant(gpu: GpuContext, shape: Pick<MlaShape, "nHeads">, tokens: number, asked?: string): AttentionVariant {
  const operation = `mlaAttention/${sizeClass(shape.nHeads)}/${tokens <= FEW_TOKENS ? "few" : "many"}`;
  return chooseVariant(gpu, operation, mlaAttentionVariants(gpu, shape), asked);
}
