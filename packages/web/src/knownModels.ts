/**
 * Published models of the architecture, with what they take: from their configs and the sizes of their tensors, which knownModels.test.ts computes again. The largest
 * binding that any of them needs is less than every WebGPU device offers, so what decides is memory, and room to keep them. Nobody is asked for this list.
 */
export interface KnownModel {
  /** Of the default hub. */
  readonly repo: string;
  readonly about: string;
  /** Weights. */
  readonly downloadBytes: number;
  /** As a page runs it, without its MTP module. */
  readonly gpuBytes: number;
}

const V2_LITE = { about: "16 billion parameters in BF16", downloadBytes: 31_412_968_448, gpuBytes: 31_659_849_216 };
const V2 = { about: "236 billion parameters in BF16", downloadBytes: 471_482_869_760, gpuBytes: 472_047_079_424 };
const V3 = { about: "671 billion parameters in FP8", downloadBytes: 688_575_000_000, gpuBytes: 672_000_000_000 };

export const KNOWN_MODELS: readonly KnownModel[] = [
  { repo: "deepseek-ai/DeepSeek-V2-Lite-Chat", ...V2_LITE },
  { repo: "deepseek-ai/DeepSeek-Coder-V2-Lite-Instruct", ...V2_LITE },
  { repo: "deepseek-ai/DeepSeek-V2-Chat-0628", ...V2 },
  { repo: "deepseek-ai/DeepSeek-V3-0324", ...V3 },
  { repo: "deepseek-ai/DeepSeek-R1-0528", ...V3 },
  { repo: "deepseek-ai/DeepSeek-V3.1", ...V3 },
];
