/**
 * Hugging Face `config.json` of the DeepSeek-V2 and V3 families -> `ModelConfig`. Fields that published configs of these families always
 * carry are required; those that some leave out take the value that the published modelling code would.
 */
import { finishConfig, type FieldNames } from "./check-config.ts";
import { CONFIG_LIMITS, LATENT_NORM_EPS, type ModelConfig, type ModelType, type Quantization, type RopeScaling } from "./config.ts";
import { Fields } from "./fields.ts";

const NAMES: FieldNames = {
  nLayers: "num_hidden_layers",
  nDenseLayers: "first_k_dense_replace",
  qkRopeHeadDim: "qk_rope_head_dim",
  nRoutedExperts: "n_routed_experts",
  nActivatedExperts: "num_experts_per_tok",
  nExpertGroups: "n_group",
  topkGroup: "topk_group",
  scoreFunc: "scoring_func",
  topkMethod: "topk_method",
  betaSlow: "rope_scaling.beta_slow",
  maxPositionEmbeddings: "max_position_embeddings",
  bosTokenId: "bos_token_id",
  eosTokenIds: "eos_token_id",
};

/** `model_type`s that are one of the two architectures under another name, beside those whose `architectures` say so. */
const MODEL_TYPES: ReadonlyMap<string, ModelType> = new Map([
  ["deepseek_v3", "deepseek_v3"],
  ["kimi_k2", "deepseek_v3"],
  ["joyai_llm_flash", "deepseek_v3"],
  ["deepseek_v2", "deepseek_v2"],
]);

const ARCHITECTURES: ReadonlyMap<string, ModelType> = new Map([
  ["DeepseekV3ForCausalLM", "deepseek_v3"],
  ["DeepseekV2ForCausalLM", "deepseek_v2"],
]);

const size = { min: 1, max: CONFIG_LIMITS.size };

/**
 * @param json the parsed file
 * @param path its name, for messages
 * @throws {ConfigError}
 */
export function parseHfConfig(json: unknown, path = "config.json"): ModelConfig {
  const fields = new Fields(json, path);
  const modelType = parseModelType(fields);
  rejectUnsupported(fields);
  const isV3 = modelType === "deepseek_v3";
  const topkMethod = fields.oneOf("topk_method", ["noaux_tc", "greedy", "group_limited_greedy"], isV3 ? "noaux_tc" : "greedy");
  const experts = { min: 1, max: CONFIG_LIMITS.experts };
  const tokens = { min: 0, max: CONFIG_LIMITS.vocab - 1 };
  const rope = fields.object("rope_scaling") ?? fields.object("rope_parameters");
  return finishConfig(
    {
      modelType,
      vocabSize: fields.int("vocab_size", { min: 1, max: CONFIG_LIMITS.vocab }),
      hiddenSize: fields.int("hidden_size", size),
      intermediateSize: fields.int("intermediate_size", size),
      moeIntermediateSize: fields.int("moe_intermediate_size", size),
      nLayers: fields.int("num_hidden_layers", { min: 1, max: CONFIG_LIMITS.layers }),
      nDenseLayers: fields.int("first_k_dense_replace", { min: 0, max: CONFIG_LIMITS.layers }),
      nHeads: fields.int("num_attention_heads", { min: 1, max: CONFIG_LIMITS.heads }),
      qLoraRank: fields.int("q_lora_rank", { min: 0, max: CONFIG_LIMITS.size }, 0),
      kvLoraRank: fields.int("kv_lora_rank", size),
      qkNopeHeadDim: fields.int("qk_nope_head_dim", size),
      qkRopeHeadDim: fields.int("qk_rope_head_dim", size),
      vHeadDim: fields.int("v_head_dim", size),
      nRoutedExperts: fields.int("n_routed_experts", experts),
      nSharedExperts: fields.int("n_shared_experts", { min: 0, max: 1024 }, 0),
      nActivatedExperts: fields.int("num_experts_per_tok", experts),
      nExpertGroups: fields.int("n_group", experts, isV3 ? undefined : 1),
      topkGroup: fields.int("topk_group", experts, isV3 ? undefined : 1),
      scoreFunc: fields.oneOf("scoring_func", ["sigmoid", "softmax"], isV3 ? "sigmoid" : "softmax"),
      topkMethod,
      normTopkProb: fields.bool("norm_topk_prob", isV3),
      routedScalingFactor: fields.float("routed_scaling_factor", { min: 0, max: 1e6 }, isV3 ? undefined : 1),
      hasCorrectionBias: topkMethod === "noaux_tc",
      ropeTheta: parseTheta(fields, rope),
      ropeScaling: parseRopeScaling(rope),
      maxPositionEmbeddings: fields.int("max_position_embeddings", { min: 1, max: CONFIG_LIMITS.positions }),
      rmsNormEps: fields.float("rms_norm_eps", { min: 0, max: 1 }),
      latentNormEps: LATENT_NORM_EPS,
      tieWordEmbeddings: fields.bool("tie_word_embeddings", false),
      nMtpLayers: fields.int("num_nextn_predict_layers", { min: 0, max: CONFIG_LIMITS.mtpLayers }, 0),
      quantization: parseQuantization(fields.object("quantization_config")),
      bosTokenId: fields.get("bos_token_id") === null ? null : fields.int("bos_token_id", tokens),
      eosTokenIds: fields.ints("eos_token_id", tokens),
    },
    path,
    NAMES,
  );
}

function parseModelType(fields: Fields): ModelType {
  const architectures = fields.get("architectures");
  const names: readonly unknown[] = Array.isArray(architectures) ? architectures : [];
  for (const name of names) {
    const found = typeof name === "string" ? ARCHITECTURES.get(name) : undefined;
    if (found !== undefined) return found;
  }
  const modelType = fields.get("model_type");
  const found = typeof modelType === "string" ? MODEL_TYPES.get(modelType) : undefined;
  // Another architecture under a known model_type is another model.
  if (found !== undefined && names.length === 0) return found;
  const expected = `one of ${[...ARCHITECTURES.keys()].join(", ")}, or a model_type of ${[...MODEL_TYPES.keys()].join(", ")}`;
  throw fields.fail(names.length > 0 ? "architectures" : "model_type", expected);
}

/** What the modelling code can express and we cannot run: better refused than computed wrongly. */
function rejectUnsupported(fields: Fields): void {
  if (fields.get("index_n_heads") !== null) {
    throw fields.fail("index_n_heads", "none: the sparse attention of DeepSeek-V3.2 is not supported");
  }
  fields.oneOf("hidden_act", ["silu"], "silu");
  if (fields.bool("attention_bias", false)) throw fields.fail("attention_bias", "false: attention biases are not supported");
  fields.int("moe_layer_freq", { min: 1, max: 1 }, 1);
  if (!fields.bool("rope_interleave", true)) throw fields.fail("rope_interleave", "true: RoPE rotates adjacent pairs");
}

/** transformers 5 writes it inside `rope_parameters`. */
function parseTheta(fields: Fields, rope: Fields | null): number {
  const holder = rope !== null && rope.get("rope_theta") !== null ? rope : fields;
  return holder.float("rope_theta", { min: 0, max: 1e12 }, 10000);
}

function parseRopeScaling(fields: Fields | null): RopeScaling | null {
  if (fields === null) return null;
  const typeKey = fields.get("rope_type") === null ? "type" : "rope_type";
  if (fields.oneOf(typeKey, ["yarn", "default"]) === "default") return null;
  if (fields.get("attention_factor") !== null) throw fields.fail("attention_factor", "none: mscale and mscale_all_dim decide");
  if (!fields.bool("truncate", true)) throw fields.fail("truncate", "true, as the published code rounds the correction range");
  return {
    factor: fields.float("factor", { min: 1, max: 1e6, inclusive: true }),
    originalMaxPositionEmbeddings: fields.int("original_max_position_embeddings", { min: 1, max: CONFIG_LIMITS.positions }),
    betaFast: fields.float("beta_fast", { min: 0, max: 1e6 }, 32),
    betaSlow: fields.float("beta_slow", { min: 0, max: 1e6 }, 1),
    mscale: fields.float("mscale", { min: 0, max: 1e3, inclusive: true }, 1),
    mscaleAllDim: fields.float("mscale_all_dim", { min: 0, max: 1e3, inclusive: true }, 0),
  };
}

function parseQuantization(fields: Fields | null): Quantization | null {
  if (fields === null) return null;
  fields.oneOf("quant_method", ["fp8"]);
  fields.oneOf("fmt", ["e4m3"], "e4m3");
  fields.oneOf("activation_scheme", ["dynamic"], "dynamic");
  const block = fields.get("weight_block_size");
  if (!Array.isArray(block) || block.length !== 2 || block[0] !== 128 || block[1] !== 128)
    throw fields.fail("weight_block_size", "[128,128]");
  return {
    format: "fp8_e4m3",
    blockSize: [128, 128],
    scaleFmt: fields.get("scale_fmt") === null ? null : fields.oneOf("scale_fmt", ["ue8m0"] as const),
  };
}
