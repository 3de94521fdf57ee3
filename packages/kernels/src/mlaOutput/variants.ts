/** The shaders of mlaOutput, and which of them suits how many tokens. */
import type { GpuContext } from "@shoal/gpu";
import { SMALLEST_TEAM, prefersWholeRows, sharesPipelines } from "../rowTeams.ts";
import { type Variant, chooseVariant } from "../variants.ts";
import { CHUNK, FORMAT_BYTES, SCALE_BLOCK, type WeightFormat } from "../weights.ts";

export interface OutputVariant extends Variant {
  readonly shader: string;
  /** Of a workgroup: grids are made of them. */
  readonly tileTokens: number;
  readonly tileValues: number;
  /** Whether values may be written as halves. */
  readonly halves?: boolean;
}

export interface OutputShape {
  readonly tokens: number;
  readonly splits: number;
  /** Elements of a latent, rounded up to 16. */
  readonly stride: number;
  /** vHeadDim. */
  readonly value: number;
  /** Of kv_b_proj. */
  readonly format: WeightFormat;
}

/** Up to so many tokens each group of four reads the weights again, which costs less than to stage them. */
const FEW_TOKENS = 16;
const GROUP_TOKENS = 4;
/** Bytes of workgroup memory of the plain shader for a token, besides its latent. */
const PLAIN_SUM_BYTES = 128 * 16;

/** Compiles quickly. */
function plain(gpu: GpuContext, { tokens, stride }: OutputShape): OutputVariant {
  const room = Math.floor(gpu.limits.maxComputeWorkgroupStorageSize / (stride * 4 + PLAIN_SUM_BYTES));
  const tile = Math.min(tokens === 1 ? 1 : GROUP_TOKENS, Math.max(room, 1));
  return {
    name: "plain",
    shader: "mla/output.wgsl",
    tileTokens: tile,
    tileValues: 64,
    constants: { TOKENS: tile },
    supported: () => room >= 1,
  };
}

/** What software adapters should start with: of 64 tokens it takes half of the time of `rows`, of two two thirds. */
function whole(gpu: GpuContext, { tokens }: OutputShape): OutputVariant {
  const tile = sharesPipelines(gpu, tokens) ? 1 : Math.min(tokens, GROUP_TOKENS);
  const { subgroupSize } = gpu.dialect;
  return {
    name: "whole-4",
    shader: "mla/output_whole.wgsl",
    tileTokens: tile,
    tileValues: 4 * subgroupSize,
    constants: { TOKENS: tile, ROWS: 4, LANES: subgroupSize, BLOCK_CHUNKS: subgroupSize / 4 },
    supported: prefersWholeRows,
  };
}

/** Runs anywhere, and has no barriers: what software adapters without subgroups should start with. */
function rows(gpu: GpuContext, { tokens }: OutputShape): OutputVariant {
  const tile = sharesPipelines(gpu, tokens) ? 1 : Math.min(tokens, GROUP_TOKENS);
  return {
    name: "rows",
    shader: "mla/output_rows.wgsl",
    tileTokens: tile,
    tileValues: 32,
    constants: { TOKENS: tile, ROWS: 4, WORKGROUP: 8 },
  };
}

function few(workgroup: 128 | 256, { splits, stride }: OutputShape): OutputVariant {
  const vectors = stride / 4;
  const parts = Math.max(1, Math.min(splits, Math.floor(workgroup / vectors)));
  const values = workgroup / 4;
  const memory = parts * stride * 4 + splits * 12 + values * 8 * 4;
  return {
    name: `few${workgroup}`,
    shader: "mla/output_few.wgsl",
    tileTokens: GROUP_TOKENS,
    tileValues: values,
    constants: { WORKGROUP: workgroup, VALUES: values, TOKENS: GROUP_TOKENS, PARTS: parts, MERGED_IN_PARTS: parts > 1 },
    supported: ({ limits }) => limits.maxComputeWorkgroupStorageSize >= memory,
  };
}

/** Rows and ranges whose loads are in flight together: of an invocation, in vectors of 16 bytes. */
const SEVERAL = { tokens: 64, workgroup: 512, vectors: 1, merged: 4, touch: true };

/** For steps of many sequences, on devices with subgroups: a workgroup for each head and each four tokens. The only one that can write halves. */
function several(gpu: GpuContext, { tokens, splits, stride, value, format }: OutputShape): OutputVariant {
  const { workgroup } = SEVERAL;
  const { dialect } = gpu;
  const own = tokens === 1 ? 1 : tokens === 2 ? 2 : GROUP_TOKENS;
  const chunks = stride / CHUNK;
  const words = FORMAT_BYTES[format];
  const lanes = Math.max(SMALLEST_TEAM, Math.min(dialect.subgroupSize, 2 ** Math.ceil(Math.log2(chunks))));
  const loads = Math.ceil(chunks / lanes) * words;
  return {
    name: "several",
    shader: "mla/output_several.wgsl",
    tileTokens: own,
    tileValues: value,
    halves: true,
    constants: {
      WORKGROUP: workgroup,
      VALUES: value,
      TOKENS: own,
      WORDS: words,
      VALUE_LANES: lanes,
      VALUE_CHUNKS: loads / words,
      VALUE_LOADS: loads,
      VALUE_ROWS: Math.max(1, Math.min(Math.ceil((value * lanes) / workgroup), Math.floor(SEVERAL.vectors / loads))),
      TOUCH: SEVERAL.touch ? Math.ceil((value * lanes) / workgroup) * (loads / words) : 0,
      VALUE_BLOCKS: Math.ceil(value / SCALE_BLOCK) + 1,
      MERGED: Math.min(splits, SEVERAL.merged),
    },
    supported: ({ limits }) =>
      dialect.subgroups !== "none" &&
      dialect.subgroupSize >= SMALLEST_TEAM &&
      limits.maxComputeInvocationsPerWorkgroup >= workgroup &&
      limits.maxComputeWorkgroupSizeX >= workgroup &&
      limits.maxComputeWorkgroupStorageSize >= own * stride * 4,
  };
}

function tiled({ splits }: OutputShape): OutputVariant {
  return {
    name: "tiled",
    shader: "mla/output_tiled.wgsl",
    tileTokens: 64,
    tileValues: 128,
    constants: {},
    supported: ({ limits }) => limits.maxComputeWorkgroupStorageSize >= 12 * 1024 + 64 * splits * 4,
  };
}

/** Any of them is right for any number of tokens; the best guess for the device comes first. */
export function mlaOutputVariants(gpu: GpuContext, shape: OutputShape): readonly OutputVariant[] {
  const fews = [few(256, shape), few(128, shape)];
  const some = several(gpu, shape);
  const ordered =
    shape.tokens <= FEW_TOKENS
      ? [...fews, some, tiled(shape)]
      : shape.tokens <= SEVERAL.tokens
        ? [some, tiled(shape), ...fews]
        : [tiled(shape), some, ...fews];
  return gpu.adapter.isSoftware
    ? [whole(gpu, shape), rows(gpu, shape), plain(gpu, shape), ...ordered]
    : [...ordered, plain(gpu, shape), rows(gpu, shape)];
}

/** @throws RangeError if one is asked for that there is not, or that does not fit workgroup memory */
export function mlaOutputVariant(gpu: GpuContext, shape: OutputShape, asked?: string): OutputVariant {
  const size = shape.tokens <= FEW_TOKENS ? "few" : shape.tokens <= SEVERAL.tokens ? "several" : "many";
  return chooseVariant(gpu, `mlaOutput/${size}`, mlaOutputVariants(gpu, shape), asked);
}
