/**
 * The experts of a layer on the GPU. A dense MLP is a group too, cut into slices of its intermediate width that are all chosen with weight 1, and so are shared
 * experts, as further experts of the routed group where their blocks line up.
 */
import type { WeightFormat } from "./weights.ts";

/** Experts `firstExpert .. firstExpert + experts`; a group larger than a binding may be has several pages. */
export interface ExpertPage {
  readonly buffer: GPUBuffer;
  readonly firstExpert: number;
  readonly experts: number;
}

export interface ExpertGroup {
  readonly format: WeightFormat;
  readonly count: number;
  /** Model width. */
  readonly hidden: number;
  /** Intermediate width of one expert (moeIntermediateSize). */
  readonly width: number;
  /** For each expert: gate [width, roundUp(hidden, 16)], then up [width, roundUp(hidden, 16)]. Every page but the last holds the same number. */
  readonly gateUp: readonly ExpertPage[];
  /** For each expert: down [hidden, roundUp(width, 16)]. */
  readonly down: readonly ExpertPage[];
  /** fp8: [count, 2, ceil(width / 128), ceil(hidden / 128)] f32, gate then up. */
  readonly gateUpScales?: GPUBuffer;
  /** fp8: [count, ceil(hidden / 128), ceil(width / 128)] f32. */
  readonly downScales?: GPUBuffer;
}

/**
 * Routing [tokens, slots] of pairs: the expert's index as u32, its weight as f32 bits. Written by the router kernel, or by the host for dense layers.
 */
export function encodeRouting(pairs: readonly { readonly expert: number; readonly weight: number }[]): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(pairs.length * 2);
  const floats = new Float32Array(words.buffer);
  for (const [index, { expert, weight }] of pairs.entries()) {
    words[index * 2] = expert;
    floats[index * 2 + 1] = weight;
  }
  return words;
}
