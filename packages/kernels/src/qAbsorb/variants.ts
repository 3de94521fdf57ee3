/** The shaders of qAbsorb, and which of them suits how many tokens. */
import type { GpuContext } from "@shoal/gpu";
import { sharesPipelines } from "../rowTeams.ts";
import { type Variant, chooseVariant } from "../variants.ts";
import { CHUNK, SCALE_BLOCK } from "../weights.ts";

export interface AbsorbVariant extends Variant {
  readonly shader: string;
  /** Of a workgroup: grids are made of them. */
  readonly tileTokens: number;
  readonly tileChunks: number;
}

/** A block of scales. */
const BLOCK_CHUNKS = SCALE_BLOCK / CHUNK;

export interface AbsorbShape {
  readonly tokens: number;
  /** qkNopeHeadDim. */
  readonly nope: number;
}

/** Up to so many tokens each group of four reads the weights again, which costs less than to stage them. */
const FEW_TOKENS = 16;
const GROUP_TOKENS = 4;
const PLAIN_TOKEN_GROUPS = 8;

/** Runs anywhere, and compiles quickly. */
function plain(tokens: number): AbsorbVariant {
  const sliced = tokens <= GROUP_TOKENS;
  const own = tokens === 1 ? 1 : GROUP_TOKENS;
  return {
    name: "plain",
    shader: "mla/q_absorb.wgsl",
    tileTokens: sliced ? own : own * PLAIN_TOKEN_GROUPS,
    tileChunks: BLOCK_CHUNKS,
    constants: { TOKENS: own, SLICED: sliced, TOKEN_GROUPS: sliced ? 1 : PLAIN_TOKEN_GROUPS },
  };
}

/** Runs anywhere, and has no barriers: what software adapters should start with. */
function columns(gpu: GpuContext, tokens: number): AbsorbVariant {
  const own = sharesPipelines(gpu, tokens) ? 1 : Math.min(tokens, GROUP_TOKENS);
  return {
    name: "columns",
    shader: "mla/q_absorb.wgsl",
    tileTokens: own,
    tileChunks: BLOCK_CHUNKS,
    constants: { TOKENS: own, SLICED: false, TOKEN_GROUPS: 1 },
  };
}

/** 64 workgroup bytes an invocation: 16 KiB at most, which every device has. */
function few(workgroup: 64 | 128 | 256): AbsorbVariant {
  return {
    name: `few${workgroup}`,
    shader: "mla/q_absorb_few.wgsl",
    tileTokens: GROUP_TOKENS,
    tileChunks: BLOCK_CHUNKS,
    constants: { WORKGROUP: workgroup, TOKENS: GROUP_TOKENS },
  };
}

const TILED: AbsorbVariant = { name: "tiled", shader: "mla/q_absorb_tiled.wgsl", tileTokens: 64, tileChunks: BLOCK_CHUNKS, constants: {} };

/** Tokens and rows of its tiles. */
const SEVERAL = { tokens: 32, rows: 64, memory: 25 * 1024 };

/** For a step of many sequences: an H100 has as many workgroups as processors for 16 heads of 32 tokens. */
function several(nope: number): AbsorbVariant {
  return {
    name: "several",
    shader: "mla/q_absorb_several.wgsl",
    tileTokens: SEVERAL.tokens,
    tileChunks: 4,
    constants: { ROUNDS: Math.ceil(nope / SEVERAL.rows) },
    supported: ({ limits }) => limits.maxComputeWorkgroupStorageSize >= SEVERAL.memory,
  };
}

/** Any of them is right for any number of tokens; the best guess for the device comes first. */
export function qAbsorbVariants(gpu: GpuContext, { tokens, nope }: AbsorbShape): readonly AbsorbVariant[] {
  const fews = [few(256), few(128), few(64)];
  const some = several(nope);
  const ordered =
    tokens <= FEW_TOKENS ? [...fews, some, TILED] : tokens <= SEVERAL.tokens ? [some, TILED, ...fews] : [TILED, some, ...fews];
  return gpu.adapter.isSoftware ? [columns(gpu, tokens), plain(tokens), ...ordered] : [...ordered, plain(tokens), columns(gpu, tokens)];
}

/** @throws RangeError if one is asked for that there is not */
export function qAbsorbVariant(gpu: GpuContext, shape: AbsorbShape, asked?: string): AbsorbVariant {
  const { tokens } = shape;
  const size = tokens <= FEW_TOKENS ? "few" : tokens <= SEVERAL.tokens ? "several" : "many";
  return chooseVariant(gpu, `qAbsorb/${size}`, qAbsorbVariants(gpu, shape), asked);
}
