/**
 * Numbers that follow from a config alone: RoPE frequencies (YaRN included), the softmax scale, the size of the KV cache. Pure.
 *
 * Frequencies are rounded to float32 after every step, in the order of the published modelling code, whose tensors are float32.
 * YaRN applies at every length (the demo applies it only above the original one; all other implementations always).
 */
import type { ModelConfig } from "./config.ts";

export type KvFormat = "f16" | "f32" | "fp8";

const { fround } = Math;

/** YaRN's attention factor: 1 where nothing is scaled. */
function yarnMscale(factor: number, mscale: number): number {
  return factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1;
}

/** What q·k is multiplied by before the softmax. `mscaleAllDim` enters squared, once for q and once for k. */
export function softmaxScale(config: ModelConfig): number {
  const scale = (config.qkNopeHeadDim + config.qkRopeHeadDim) ** -0.5;
  const scaling = config.ropeScaling;
  return scaling === null ? scale : scale * yarnMscale(scaling.factor, scaling.mscaleAllDim) ** 2;
}

/** What cos and sin are multiplied by: 1 for every published model, whose two mscales are equal. */
export function cosSinScale(config: ModelConfig): number {
  const scaling = config.ropeScaling;
  return scaling === null ? 1 : yarnMscale(scaling.factor, scaling.mscale) / yarnMscale(scaling.factor, scaling.mscaleAllDim);
}

/** Angle per position of each rotated pair: [qkRopeHeadDim / 2]. */
export function ropeInvFreq(config: ModelConfig): Float32Array<ArrayBuffer> {
  const dim = config.qkRopeHeadDim;
  const periods = Float32Array.from({ length: dim / 2 }, (_, i) => config.ropeTheta ** fround((2 * i) / dim));
  const scaling = config.ropeScaling;
  if (scaling === null) return periods.map((period) => 1 / period);
  const { low, high } = yarnCorrectionRange(config.ropeTheta, dim, scaling);
  return periods.map((period, i) => {
    // 0: fast pairs, kept; 1: slow pairs, stretched by the factor.
    const ramp = Math.min(Math.max(fround(fround(i - low) / fround(high - low)), 0), 1);
    const keep = fround(1 - ramp);
    const stretched = fround(1 / fround(scaling.factor * period));
    return fround(stretched * fround(1 - keep)) + fround(fround(1 / period) * keep);
  });
}

/** The pairs between which YaRN blends, found by how often each turns over the original context. */
export function yarnCorrectionRange(
  theta: number,
  dim: number,
  scaling: NonNullable<ModelConfig["ropeScaling"]>,
): { readonly low: number; readonly high: number } {
  const pairTurning = (turns: number) =>
    (dim * Math.log(scaling.originalMaxPositionEmbeddings / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const low = Math.max(Math.floor(pairTurning(scaling.betaFast)), 0);
  const high = Math.min(Math.ceil(pairTurning(scaling.betaSlow)), dim - 1);
  // As published: a range of no width would divide by zero.
  return { low, high: low === high ? high + 0.001 : high };
}

/** Numbers of the latent cache for one token in one layer: the compressed latent and the shared RoPE key. */
export function kvValuesPerLayer(config: ModelConfig): number {
  return config.kvLoraRank + config.qkRopeHeadDim;
}

/** The latent in e4m3 with an f32 scale for every 128, the key in bf16, in whole vectors of 16 bytes: FlashMLA's row. */
function fp8KvBytes({ kvLoraRank, qkRopeHeadDim }: ModelConfig): number {
  const latent = Math.ceil(kvLoraRank / 4) * 4 + Math.ceil(kvLoraRank / 128) * 4;
  return Math.ceil((latent + qkRopeHeadDim * 2) / 16) * 16;
}

/** Bytes of KV cache for one token. `layers`: the main ones by default; the MTP layer has a cache of its own. */
export function kvBytesPerToken(config: ModelConfig, format: KvFormat = "f16", layers: number = config.nLayers): number {
  return layers * (format === "fp8" ? fp8KvBytes(config) : kvValuesPerLayer(config) * (format === "f16" ? 2 : 4));
}
