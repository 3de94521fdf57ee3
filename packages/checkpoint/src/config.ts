/**
 * The one description of a model that everything above reads. It comes from a Hugging Face `config.json` or from the demo's own config
 * (`hf-config.ts`, `demo-config.ts`), is checked there, and is frozen. Names are the paper's and the demo's; sizes count elements.
 */

export type ModelType = "deepseek_v3" | "deepseek_v2";
export type ScoreFunc = "sigmoid" | "softmax";
export type TopkMethod = "noaux_tc" | "greedy" | "group_limited_greedy";

/** YaRN. `mscale / mscaleAllDim` scales cos and sin; `mscaleAllDim` alone enters the softmax scale. */
export interface RopeScaling {
  readonly factor: number;
  readonly originalMaxPositionEmbeddings: number;
  readonly betaFast: number;
  readonly betaSlow: number;
  readonly mscale: number;
  readonly mscaleAllDim: number;
}

/** FP8 matrices with one F32 multiplier a block; `scaleFmt` 'ue8m0' asks for power-of-two scales of activations at run time. */
export interface Quantization {
  readonly format: "fp8_e4m3";
  /** [output rows, input columns] */
  readonly blockSize: readonly [128, 128];
  readonly scaleFmt: null | "ue8m0";
}

export interface ModelConfig {
  readonly modelType: ModelType;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  /** Width of the dense layers' MLP. */
  readonly intermediateSize: number;
  /** Width of one expert. */
  readonly moeIntermediateSize: number;
  /** Main layers, MTP not counted. */
  readonly nLayers: number;
  /** The first layers, which have a dense MLP. */
  readonly nDenseLayers: number;
  readonly nHeads: number;
  /** 0: no low-rank query, `q_proj` instead. */
  readonly qLoraRank: number;
  readonly kvLoraRank: number;
  readonly qkNopeHeadDim: number;
  readonly qkRopeHeadDim: number;
  readonly vHeadDim: number;
  readonly nRoutedExperts: number;
  readonly nSharedExperts: number;
  /** Routed experts chosen for each token. */
  readonly nActivatedExperts: number;
  readonly nExpertGroups: number;
  /** Groups that a token may choose from. */
  readonly topkGroup: number;
  readonly scoreFunc: ScoreFunc;
  readonly topkMethod: TopkMethod;
  readonly normTopkProb: boolean;
  readonly routedScalingFactor: number;
  /** The router has `e_score_correction_bias`, used to choose and never to weigh. */
  readonly hasCorrectionBias: boolean;
  readonly ropeTheta: number;
  readonly ropeScaling: RopeScaling | null;
  readonly maxPositionEmbeddings: number;
  readonly rmsNormEps: number;
  /** Epsilon of `q_a_layernorm` and `kv_a_layernorm`: published code builds these two without the config's value. */
  readonly latentNormEps: number;
  readonly tieWordEmbeddings: boolean;
  /** Multi-token-prediction modules, stored as the layers after the last. */
  readonly nMtpLayers: number;
  readonly quantization: Quantization | null;
  /** Null where the format does not say (the demo's). */
  readonly bosTokenId: number | null;
  readonly eosTokenIds: readonly number[];
}

/** Bounds on what a config may ask for: far above any published model, far below what would overflow an address. */
export const CONFIG_LIMITS = {
  /** Any width: hidden, intermediate, ranks, head dims. */
  size: 2 ** 20,
  vocab: 2 ** 24,
  layers: 1024,
  experts: 65536,
  heads: 65536,
  positions: 2 ** 24,
  mtpLayers: 16,
} as const;

/** Published code builds the two latent norms with PyTorch's class default. */
export const LATENT_NORM_EPS = 1e-6;
