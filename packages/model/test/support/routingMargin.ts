/**
 * How near a router's choice was to another one, in f64, from the reference's own hidden states: where the margin is less than rounding, either choice is right.
 * Covers `noaux_tc` with sigmoid scores (DeepSeek-V3, arXiv 2412.19437, section 2.1.2).
 */
import type { CheckpointSource } from "@shoal/checkpoint";

export interface RouterWeights {
  readonly gamma: Float32Array;
  /** [nRoutedExperts, hiddenSize] */
  readonly gate: Float32Array;
  readonly bias: Float32Array;
}

export interface RouterChoice {
  /** By falling biased score. */
  readonly experts: readonly number[];
  /** The smaller of: last group kept over first group left out, last expert kept over first one left out. */
  readonly margin: number;
}

export async function routerWeights({ tensors }: CheckpointSource, layer: number): Promise<RouterWeights> {
  const prefix = `model.layers.${layer}`;
  const read = async (name: string): Promise<Float32Array> => {
    const bytes = new Uint8Array(await tensors.readTensor(`${prefix}.${name}`)).slice().buffer;
    return tensors.tensors.get(`${prefix}.${name}`)?.dtype === "F32" ? new Float32Array(bytes) : fromBf16(new Uint16Array(bytes));
  };
  return {
    gamma: await read("post_attention_layernorm.weight"),
    gate: await read("mlp.gate.weight"),
    bias: await read("mlp.gate.e_score_correction_bias"),
  };
}

/** @param x residual stream of one token before the MLP's norm: [hiddenSize] */
export function routerChoice({ config }: CheckpointSource, { gamma, gate, bias }: RouterWeights, x: Float32Array): RouterChoice {
  const { nRoutedExperts, nActivatedExperts, nExpertGroups, topkGroup, rmsNormEps } = config;
  const squares = x.reduce((sum, value) => sum + value * value, 0);
  const scale = 1 / Math.sqrt(squares / x.length + rmsNormEps);
  const biased = Array.from({ length: nRoutedExperts }, (_, expert) => {
    let logit = 0;
    for (let i = 0; i < x.length; i++) logit += (x[i] ?? 0) * scale * (gamma[i] ?? 0) * (gate[expert * x.length + i] ?? 0);
    return 1 / (1 + Math.exp(-logit)) + (bias[expert] ?? 0);
  });
  const perGroup = nRoutedExperts / nExpertGroups;
  const groups = Array.from({ length: nExpertGroups }, (_, group) => {
    const [best = 0, second = 0] = biased.slice(group * perGroup, (group + 1) * perGroup).sort((a, b) => b - a);
    return { group, score: best + second };
  }).sort((a, b) => b.score - a.score);
  const kept = new Set(groups.slice(0, topkGroup).map(({ group }) => group));
  const experts = biased
    .map((score, expert) => ({ score, expert }))
    .filter(({ expert }) => kept.has(Math.floor(expert / perGroup)))
    .sort((a, b) => b.score - a.score);
  const gap = (scores: readonly { readonly score: number }[], count: number): number =>
    (scores[count - 1]?.score ?? 0) - (scores[count]?.score ?? Number.NEGATIVE_INFINITY);
  return {
    experts: experts.slice(0, nActivatedExperts).map(({ expert }) => expert),
    margin: Math.min(gap(groups, topkGroup), gap(experts, nActivatedExperts)),
  };
}

function fromBf16(codes: Uint16Array): Float32Array {
  const bits = Uint32Array.from(codes, (code) => code << 16);
  return new Float32Array(bits.buffer);
}
