/**
 * The config format of DeepSeek's own inference demo (`configs/*.json`, its `ModelArgs`) -> `ModelConfig`, with that class's defaults. As in the
 * demo, an unknown field is an error. Where the demo leaves something unsaid, the published modelling code decides:
 *
 * - sigmoid scores come with a correction bias, group scores of the two best, and normalised weights; softmax scores with none of them
 *   (the demo's own rule for the bias, "the width is 7168", breaks for every other V3 model);
 * - its one `mscale` scales the softmax; cos and sin are not scaled;
 * - YaRN applies only if `max_seq_len` exceeds `original_seq_len`;
 * - the token ids come from the tokenizer, and there is no MTP layer: see `openCheckpoint()` for one that the files hold.
 */
import { finishConfig, type FieldNames } from "./check-config.ts";
import { CONFIG_LIMITS, LATENT_NORM_EPS, type ModelConfig, type TopkMethod } from "./config.ts";
import { ConfigError } from "./error.ts";
import { Fields } from "./fields.ts";

const NAMES: FieldNames = {
  nLayers: "n_layers",
  nDenseLayers: "n_dense_layers",
  qkRopeHeadDim: "qk_rope_head_dim",
  nRoutedExperts: "n_routed_experts",
  nActivatedExperts: "n_activated_experts",
  nExpertGroups: "n_expert_groups",
  topkGroup: "n_limited_groups",
  scoreFunc: "score_func",
  topkMethod: "score_func",
  betaSlow: "beta_slow",
  maxPositionEmbeddings: "max_seq_len",
  bosTokenId: "bos_token_id",
  eosTokenIds: "eos_token_id",
};

/** The fields of the demo's `ModelArgs`. */
const KNOWN: ReadonlySet<string> = new Set([
  "max_batch_size",
  "max_seq_len",
  "dtype",
  "scale_fmt",
  "vocab_size",
  "dim",
  "inter_dim",
  "moe_inter_dim",
  "n_layers",
  "n_dense_layers",
  "n_heads",
  "n_routed_experts",
  "n_shared_experts",
  "n_activated_experts",
  "n_expert_groups",
  "n_limited_groups",
  "score_func",
  "route_scale",
  "q_lora_rank",
  "kv_lora_rank",
  "qk_nope_head_dim",
  "qk_rope_head_dim",
  "v_head_dim",
  "original_seq_len",
  "rope_theta",
  "rope_factor",
  "beta_fast",
  "beta_slow",
  "mscale",
]);

/** Whether a parsed config is written in the demo's format: it calls the hidden size `dim`, and has no `hidden_size`. */
export function isDemoConfig(json: unknown): boolean {
  return typeof json === "object" && json !== null && "dim" in json && !("hidden_size" in json);
}

/**
 * @param json the parsed file
 * @param path its name, for messages
 * @throws {ConfigError}
 */
export function parseDemoConfig(json: unknown, path = "config.json"): ModelConfig {
  const fields = new Fields(json, path);
  const unknown = fields.keys().find((key) => !KNOWN.has(key));
  if (unknown?.startsWith("index_") === true) {
    throw fields.fail(unknown, "none: the sparse attention of DeepSeek-V3.2 is not supported");
  }
  if (unknown !== undefined) throw new ConfigError(path, unknown, "is not a field of the demo's config", "one of its fields");

  const size = { min: 1, max: CONFIG_LIMITS.size };
  const experts = { min: 1, max: CONFIG_LIMITS.experts };
  const scoreFunc = fields.oneOf("score_func", ["softmax", "sigmoid"], "softmax");
  const groups = fields.int("n_expert_groups", experts, 1);
  const topkMethod: TopkMethod = scoreFunc === "sigmoid" ? "noaux_tc" : groups > 1 ? "group_limited_greedy" : "greedy";
  const isFp8 = fields.oneOf("dtype", ["bf16", "fp8"], "bf16") === "fp8";
  const scaleFmt = fields.get("scale_fmt") === null ? null : fields.oneOf("scale_fmt", ["ue8m0"] as const);
  fields.int("max_batch_size", { min: 1, max: 65536 }, 8);
  const maxPositionEmbeddings = fields.int("max_seq_len", { min: 1, max: CONFIG_LIMITS.positions }, 16384);
  const original = fields.int("original_seq_len", { min: 1, max: CONFIG_LIMITS.positions }, 4096);
  const mscale = fields.float("mscale", { min: 0, max: 1e3, inclusive: true }, 1);
  const ropeScaling = {
    factor: fields.float("rope_factor", { min: 1, max: 1e6, inclusive: true }, 40),
    originalMaxPositionEmbeddings: original,
    betaFast: fields.float("beta_fast", { min: 0, max: 1e6 }, 32),
    betaSlow: fields.float("beta_slow", { min: 0, max: 1e6 }, 1),
    mscale,
    mscaleAllDim: mscale,
  };
  return finishConfig(
    {
      modelType: scoreFunc === "sigmoid" ? "deepseek_v3" : "deepseek_v2",
      vocabSize: fields.int("vocab_size", { min: 1, max: CONFIG_LIMITS.vocab }, 102400),
      hiddenSize: fields.int("dim", size, 2048),
      intermediateSize: fields.int("inter_dim", size, 10944),
      moeIntermediateSize: fields.int("moe_inter_dim", size, 1408),
      nLayers: fields.int("n_layers", { min: 1, max: CONFIG_LIMITS.layers }, 27),
      nDenseLayers: fields.int("n_dense_layers", { min: 0, max: CONFIG_LIMITS.layers }, 1),
      nHeads: fields.int("n_heads", { min: 1, max: CONFIG_LIMITS.heads }, 16),
      qLoraRank: fields.int("q_lora_rank", { min: 0, max: CONFIG_LIMITS.size }, 0),
      kvLoraRank: fields.int("kv_lora_rank", size, 512),
      qkNopeHeadDim: fields.int("qk_nope_head_dim", size, 128),
      qkRopeHeadDim: fields.int("qk_rope_head_dim", size, 64),
      vHeadDim: fields.int("v_head_dim", size, 128),
      nRoutedExperts: fields.int("n_routed_experts", experts, 64),
      nSharedExperts: fields.int("n_shared_experts", { min: 0, max: 1024 }, 2),
      nActivatedExperts: fields.int("n_activated_experts", experts, 6),
      nExpertGroups: groups,
      topkGroup: fields.int("n_limited_groups", experts, 1),
      scoreFunc,
      topkMethod,
      normTopkProb: scoreFunc === "sigmoid",
      routedScalingFactor: fields.float("route_scale", { min: 0, max: 1e6 }, 1),
      hasCorrectionBias: scoreFunc === "sigmoid",
      ropeTheta: fields.float("rope_theta", { min: 0, max: 1e12 }, 10000),
      ropeScaling: maxPositionEmbeddings > original ? ropeScaling : null,
      maxPositionEmbeddings,
      rmsNormEps: 1e-6,
      latentNormEps: LATENT_NORM_EPS,
      tieWordEmbeddings: false,
      nMtpLayers: 0,
      quantization: isFp8 ? { format: "fp8_e4m3", blockSize: [128, 128], scaleFmt } : null,
      bosTokenId: null,
      eosTokenIds: [],
    },
    path,
    NAMES,
  );
}
