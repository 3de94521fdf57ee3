/** The shaders of qAbsorb, and which of them suits how many tokens. */
import type { GpuContext } from "@shoal/gpu";
import { sharesPipelines } from "../rowTeams.ts";
import { type Variant, chooseVariant } from "../variants.ts";

export interface AbsorbVariant extends Variant {
  readonly shader: string;
  /** Of a workgroup: grids are made of them. */
  readonly tileTokens: number;
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
    constants: { TOKENS: own, SLICED: false, TOKEN_GROUPS: 1 },
  };
}

/** 64 workgroup bytes an invocation: 16 KiB at most, which every device has. */
function few(workgroup: 64 | 128 | 256): AbsorbVariant {
  return {
    name: `few${workgroup}`,
    shader: "mla/q_absorb_few.wgsl",
    tileTokens: GROUP_TOKENS,
    constants: { WORKGROUP: workgroup, TOKENS: GROUP_TOKENS },
  };
}

const TILED: AbsorbVariant = { name: "tiled", shader: "mla/q_absorb_tiled.wgsl", tileTokens: 64, constants: {} };

/** Any of them is right for any number of tokens; the best guess for the device comes first. */
export function qAbsorbVariants(gpu: GpuContext, tokens: number): readonly AbsorbVariant[] {
  const fews = [few(256), few(128), few(64)];
  const ordered = tokens <= FEW_TOKENS ? [...fews, TILED] : [TILED, ...fews];
  return gpu.adapter.isSoftware ? [columns(gpu, tokens), plain(tokens), ...ordered] : [...ordered, plain(tokens), columns(gpu, tokens)];
}

/** @throws RangeError if one is asked for that there is not */
export function qAbsorbVariant(gpu: GpuContext, tokens: number, asked?: string): AbsorbVariant {
  return chooseVariant(gpu, `qAbsorb/${tokens <= FEW_TOKENS ? "few" : "many"}`, qAbsorbVariants(gpu, tokens), asked);
}
