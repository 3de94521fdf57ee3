import { describe, expect, it } from "vitest";

import { CONFIGS, DEEPSEEK_V3, FIXTURES, readJson, TINY_MODEL } from "../test/fixtures.ts";
import { parseDemoConfig } from "./demo-config.ts";
import { ConfigError } from "./error.ts";
import { parseHfConfig } from "./hf-config.ts";
import { parseConfig, parseConfigText } from "./parse-config.ts";

function failure(parse: () => unknown): ConfigError {
  try {
    parse();
  } catch (error) {
    if (error instanceof ConfigError) return error;
    throw error;
  }
  throw new Error("expected a ConfigError");
}

const demo = (name: string) => readJson(`${CONFIGS}config_${name}.json`);
/** Of V2-Lite, in both formats. Spelled so because the linter takes 0.707 for a square root. */
const LITE_MSCALE = 707 / 1000;
const without = (key: string) => Object.fromEntries(Object.entries(DEEPSEEK_V3).filter(([name]) => name !== key));

describe("parseHfConfig()", () => {
  it("reads DeepSeek-V3's own config", () => {
    expect(parseHfConfig(DEEPSEEK_V3)).toEqual({
      modelType: "deepseek_v3",
      vocabSize: 129280,
      hiddenSize: 7168,
      intermediateSize: 18432,
      moeIntermediateSize: 2048,
      nLayers: 61,
      nDenseLayers: 3,
      nHeads: 128,
      qLoraRank: 1536,
      kvLoraRank: 512,
      qkNopeHeadDim: 128,
      qkRopeHeadDim: 64,
      vHeadDim: 128,
      nRoutedExperts: 256,
      nSharedExperts: 1,
      nActivatedExperts: 8,
      nExpertGroups: 8,
      topkGroup: 4,
      scoreFunc: "sigmoid",
      topkMethod: "noaux_tc",
      normTopkProb: true,
      routedScalingFactor: 2.5,
      hasCorrectionBias: true,
      ropeTheta: 10000,
      ropeScaling: { factor: 40, originalMaxPositionEmbeddings: 4096, betaFast: 32, betaSlow: 1, mscale: 1, mscaleAllDim: 1 },
      maxPositionEmbeddings: 163840,
      rmsNormEps: 1e-6,
      latentNormEps: 1e-6,
      tieWordEmbeddings: false,
      nMtpLayers: 1,
      quantization: { format: "fp8_e4m3", blockSize: [128, 128], scaleFmt: null },
      bosTokenId: 0,
      eosTokenIds: [1],
    });
  });

  it("freezes what it returns, to the bottom", () => {
    const config = parseHfConfig(DEEPSEEK_V3);
    for (const part of [config, config.ropeScaling, config.quantization, config.eosTokenIds]) expect(Object.isFrozen(part)).toBe(true);
  });

  it("reads the tiny model, the ragged V3 and the V2-style fixtures", () => {
    expect(parseHfConfig(readJson(`${TINY_MODEL}config.json`))).toMatchObject({
      nLayers: 6,
      nMtpLayers: 1,
      nExpertGroups: 4,
      qLoraRank: 128,
    });
    expect(parseHfConfig(readJson(`${FIXTURES}ragged-v3-fp8/config.json`))).toMatchObject({ hiddenSize: 200, topkGroup: 2, nHeads: 10 });
    expect(parseHfConfig(readJson(`${FIXTURES}micro-v2-bf16/config.json`))).toMatchObject({
      modelType: "deepseek_v2",
      qLoraRank: 0,
      scoreFunc: "softmax",
      topkMethod: "greedy",
      normTopkProb: false,
      hasCorrectionBias: false,
      quantization: null,
      ropeScaling: { mscale: LITE_MSCALE, mscaleAllDim: LITE_MSCALE },
    });
  });

  it("reads a Moonlight-style config: no YaRN, one group, other epsilon, no MTP", () => {
    const { rope_scaling: _, num_nextn_predict_layers: __, quantization_config: ___, ...rest } = DEEPSEEK_V3;
    const config = parseHfConfig({ ...rest, n_group: 1, topk_group: 1, rms_norm_eps: 1e-5, rope_theta: 50000, q_lora_rank: null });
    expect(config).toMatchObject({
      ropeScaling: null,
      nMtpLayers: 0,
      quantization: null,
      rmsNormEps: 1e-5,
      latentNormEps: 1e-6,
      qLoraRank: 0,
    });
  });

  it("tells the model by its architecture where model_type has another name", () => {
    expect(parseHfConfig({ ...DEEPSEEK_V3, model_type: "anything" }).modelType).toBe("deepseek_v3");
    expect(parseHfConfig({ ...without("architectures"), model_type: "kimi_k2" }).modelType).toBe("deepseek_v3");
    expect(parseHfConfig({ ...without("architectures"), model_type: "joyai_llm_flash" }).modelType).toBe("deepseek_v3");
  });

  it("reads the rope_parameters that transformers 5 writes", () => {
    const { rope_scaling: scaling, rope_theta: _, ...rest } = DEEPSEEK_V3;
    const yarn = { ...scaling, type: undefined, rope_type: "yarn", rope_theta: 32000 };
    expect(parseHfConfig({ ...rest, rope_parameters: yarn })).toMatchObject({ ropeTheta: 32000, ropeScaling: { factor: 40 } });
    expect(parseHfConfig({ ...rest, rope_parameters: { rope_type: "default", rope_theta: 5 } })).toMatchObject({
      ropeTheta: 5,
      ropeScaling: null,
    });
  });

  it("takes the power-of-two scales of V3.1 and several end tokens", () => {
    const quantization_config = { ...DEEPSEEK_V3.quantization_config, scale_fmt: "ue8m0" };
    const config = parseHfConfig({ ...DEEPSEEK_V3, quantization_config, eos_token_id: [1, 2] });
    expect(config).toMatchObject({ quantization: { scaleFmt: "ue8m0" }, eosTokenIds: [1, 2] });
  });

  it("has one group where the method never looks at groups", () => {
    const greedy = { scoring_func: "softmax", topk_method: "greedy", n_group: 7, topk_group: 3, num_experts_per_tok: 256 };
    expect(parseHfConfig({ ...DEEPSEEK_V3, ...greedy })).toMatchObject({ nExpertGroups: 1, topkGroup: 1, hasCorrectionBias: false });
  });

  it("says path, value and expectation", () => {
    const error = failure(() => parseHfConfig({ ...DEEPSEEK_V3, topk_group: 9 }, "dir/config.json"));
    expect(error.message).toBe("Cannot use 'dir/config.json': topk_group is 9, expected at most n_group (8)");
    expect(error).toMatchObject({
      name: "ConfigError",
      file: "dir/config.json",
      path: "topk_group",
      actual: "is 9",
      expected: "at most n_group (8)",
    });
  });

  it.each([
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "moe_intermediate_size",
    "num_hidden_layers",
    "first_k_dense_replace",
    "num_attention_heads",
    "kv_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "v_head_dim",
    "n_routed_experts",
    "num_experts_per_tok",
    "n_group",
    "topk_group",
    "routed_scaling_factor",
    "max_position_embeddings",
    "rms_norm_eps",
  ])("refuses a config without %s", (key) => {
    expect(failure(() => parseHfConfig(without(key)))).toMatchObject({ path: key, actual: "is missing" });
  });

  const rope = (change: object) => ({ rope_scaling: { ...DEEPSEEK_V3.rope_scaling, ...change } });
  const quantization = (change: object) => ({ quantization_config: { ...DEEPSEEK_V3.quantization_config, ...change } });

  it.each<readonly [string, object, string, RegExp]>([
    ["an odd RoPE dimension", { qk_rope_head_dim: 63 }, "qk_rope_head_dim", /an even number/],
    ["experts that do not divide into groups", { n_group: 7, topk_group: 4 }, "n_group", /a divisor of n_routed_experts \(256\)/],
    ["more chosen experts than the kept groups have", { num_experts_per_tok: 129 }, "num_experts_per_tok", /at most 128/],
    ["groups of one expert", { n_group: 256, topk_group: 64 }, "n_group", /at least 2 experts/],
    ["more dense layers than layers", { first_k_dense_replace: 62 }, "first_k_dense_replace", /at most num_hidden_layers \(61\)/],
    ["a hidden size of 0", { hidden_size: 0 }, "hidden_size", /from 1 to 1048576/],
    ["a negative hidden size", { hidden_size: -7168 }, "hidden_size", /from 1/],
    ["a hidden size above the limit", { hidden_size: 2 ** 20 + 1 }, "hidden_size", /to 1048576/],
    ["half a layer", { num_hidden_layers: 60.5 }, "num_hidden_layers", /an integer/],
    ["1025 layers", { num_hidden_layers: 1025 }, "num_hidden_layers", /from 1 to 1024/],
    ["65537 experts", { n_routed_experts: 65537 }, "n_routed_experts", /from 1 to 65536/],
    ["a number as text", { vocab_size: "129280" }, "vocab_size", /an integer/],
    ["an epsilon of 0", { rms_norm_eps: 0 }, "rms_norm_eps", /above 0/],
    ["a theta of 0", { rope_theta: 0 }, "rope_theta", /above 0/],
    ["a scaling factor that is not finite", { routed_scaling_factor: Number.POSITIVE_INFINITY }, "routed_scaling_factor", /above 0/],
    ["a YaRN factor below 1", rope({ factor: 0.5 }), "rope_scaling.factor", /from 1/],
    [
      "YaRN without the original length",
      rope({ original_max_position_embeddings: null }),
      "rope_scaling.original_max_position_embeddings",
      /an integer/,
    ],
    ["another kind of scaling", rope({ type: "linear" }), "rope_scaling.type", /'yarn' or 'default'/],
    ["a slow beta above the fast one", rope({ beta_slow: 33 }), "rope_scaling.beta_slow", /at most the fast one/],
    ["a scaling that is a number", { rope_scaling: 4 }, "rope_scaling", /an object/],
    ["another activation", { hidden_act: "gelu" }, "hidden_act", /'silu'/],
    ["attention biases", { attention_bias: true }, "attention_bias", /not supported/],
    ["MoE in every second layer", { moe_layer_freq: 2 }, "moe_layer_freq", /from 1 to 1/],
    ["softmax with noaux_tc", { scoring_func: "softmax" }, "scoring_func", /'sigmoid' with topk_method/],
    ["an unknown method", { topk_method: "best" }, "topk_method", /'noaux_tc' or/],
    ["another quantization", quantization({ quant_method: "compressed-tensors" }), "quantization_config.quant_method", /'fp8'/],
    ["E5M2", quantization({ fmt: "e5m2" }), "quantization_config.fmt", /'e4m3'/],
    ["blocks of 64", quantization({ weight_block_size: [64, 64] }), "quantization_config.weight_block_size", /\[128,128\]/],
    ["static activation scales", quantization({ activation_scheme: "static" }), "quantization_config.activation_scheme", /'dynamic'/],
    ["an end token outside the vocabulary", { eos_token_id: 129280 }, "eos_token_id", /below the vocabulary's size \(129280\)/],
    ["the sparse attention of V3.2", { index_n_heads: 64 }, "index_n_heads", /not supported/],
    ["another architecture", { architectures: ["LlamaForCausalLM"], model_type: "llama" }, "architectures", /DeepseekV3ForCausalLM/],
    ["another architecture under a known type", { architectures: ["Other"] }, "architectures", /DeepseekV3ForCausalLM/],
  ])("refuses %s", (_, change, path, expected) => {
    const error = failure(() => parseHfConfig({ ...DEEPSEEK_V3, ...change }));
    expect(error.path).toBe(path);
    expect(error.expected).toMatch(expected);
    expect(error.message).toContain(error.actual);
  });

  it.each([null, [], "x", 4, undefined])("refuses %j as a config", (json) => {
    expect(failure(() => parseHfConfig(json)).expected).toBe("an object");
  });

  it("accepts sizes at their limits", () => {
    const limits = { hidden_size: 2 ** 20, num_hidden_layers: 1024, n_routed_experts: 65536, vocab_size: 2 ** 24 };
    expect(parseHfConfig({ ...DEEPSEEK_V3, ...limits })).toMatchObject({ hiddenSize: 2 ** 20, nLayers: 1024, nRoutedExperts: 65536 });
  });
});

describe("parseDemoConfig()", () => {
  it("reads the demo's 671B as the same model as the published config", () => {
    const { nMtpLayers: _, bosTokenId: __, eosTokenIds: ___, maxPositionEmbeddings: ____, ...published } = parseHfConfig(DEEPSEEK_V3);
    expect(parseDemoConfig(demo("671B"))).toMatchObject(published);
    expect(parseDemoConfig(demo("671B"))).toMatchObject({ maxPositionEmbeddings: 16384, nMtpLayers: 0, bosTokenId: null, eosTokenIds: [] });
  });

  it("reads the demo's v3.1 as 671B with power-of-two scales", () => {
    const { quantization, ...rest } = parseDemoConfig(demo("v3.1"));
    const { quantization: plain, ...same } = parseDemoConfig(demo("671B"));
    expect(rest).toEqual(same);
    expect(quantization).toEqual({ ...plain, scaleFmt: "ue8m0" });
  });

  it("reads the demo's 16B and 236B as V2 models", () => {
    const v2 = { modelType: "deepseek_v2", scoreFunc: "softmax", normTopkProb: false, hasCorrectionBias: false, quantization: null };
    expect(parseDemoConfig(demo("16B"))).toMatchObject({
      ...v2,
      hiddenSize: 2048,
      qLoraRank: 0,
      nExpertGroups: 1,
      topkGroup: 1,
      topkMethod: "greedy",
      routedScalingFactor: 1,
      ropeScaling: { mscale: LITE_MSCALE, mscaleAllDim: LITE_MSCALE, factor: 40 },
    });
    expect(parseDemoConfig(demo("236B"))).toMatchObject({
      ...v2,
      hiddenSize: 5120,
      nExpertGroups: 8,
      topkGroup: 3,
      topkMethod: "group_limited_greedy",
      routedScalingFactor: 16,
      ropeScaling: { mscale: 1, mscaleAllDim: 1 },
    });
  });

  it("has the demo's defaults: an empty config is its 16B but for mscale", () => {
    const { ropeScaling, ...rest } = parseDemoConfig({});
    const { ropeScaling: scaling, ...same } = parseDemoConfig(demo("16B"));
    expect(rest).toEqual(same);
    expect(ropeScaling).toEqual({ ...scaling, mscale: 1, mscaleAllDim: 1 });
  });

  it("applies YaRN only above the original length, as the demo does", () => {
    expect(parseDemoConfig({ ...demo("671B"), max_seq_len: 4096 }).ropeScaling).toBeNull();
    expect(parseDemoConfig({ ...demo("671B"), max_seq_len: 4097 }).ropeScaling).not.toBeNull();
  });

  it.each<readonly [object, string]>([
    [{ n_limited_groups: 9 }, "n_limited_groups"],
    [{ qk_rope_head_dim: 63 }, "qk_rope_head_dim"],
    [{ dim: 0 }, "dim"],
    [{ dtype: "fp16" }, "dtype"],
    [{ scale_fmt: "e8" }, "scale_fmt"],
    [{ no_such_field: 1 }, "no_such_field"],
    [{ index_n_heads: 64 }, "index_n_heads"],
    [{ n_dense_layers: 62 }, "n_dense_layers"],
    [{ score_func: "tanh" }, "score_func"],
  ])("refuses %j", (change, path) => {
    expect(failure(() => parseDemoConfig({ ...demo("671B"), ...change })).path).toBe(path);
  });
});

describe("parseConfig()", () => {
  it("tells the two formats apart", () => {
    expect(parseConfig(demo("671B")).maxPositionEmbeddings).toBe(16384);
    expect(parseConfig(DEEPSEEK_V3).maxPositionEmbeddings).toBe(163840);
  });

  it("says that a text is not JSON", () => {
    expect(failure(() => parseConfigText("{", "c.json")).message).toMatch(
      /^Cannot use 'c.json': it is not JSON \(.*\), expected a JSON object$/,
    );
  });
});
