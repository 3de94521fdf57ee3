import { describe, expect, it } from "vitest";

import { CONFIGS, DEEPSEEK_V3, readJson } from "../test/fixtures.ts";
import { parseDemoConfig } from "./demo-config.ts";
import { parseHfConfig } from "./hf-config.ts";
import { tensorSchema, type TensorSpec } from "./tensor-schema.ts";

const V3 = parseHfConfig(DEEPSEEK_V3);
const product = (shape: readonly number[]) => shape.reduce((total, dim) => total * dim, 1);

/** As published: FP8 with F32 scales, BF16 for the rest, the correction bias F32. */
function publishedBytes(spec: TensorSpec): number {
  if (spec.kind === "fp8Block") return product(spec.shape) + 4 * product(spec.scaleShape ?? []);
  return product(spec.shape) * (spec.name.endsWith("e_score_correction_bias") ? 4 : 2);
}

function totals(specs: readonly TensorSpec[]) {
  const tensors = specs.reduce((count, spec) => count + (spec.kind === "fp8Block" ? 2 : 1), 0);
  return { tensors, bytes: specs.reduce((sum, spec) => sum + publishedBytes(spec), 0) };
}

describe("tensorSchema()", () => {
  it("reproduces the published totals of DeepSeek-V3 to the byte", () => {
    expect(totals(tensorSchema(V3))).toEqual({ tensors: 91_991, bytes: 688_574_839_360 });
    const demo = parseDemoConfig(readJson(`${CONFIGS}config_671B.json`));
    expect(totals(tensorSchema({ ...demo, nMtpLayers: 1 }))).toEqual({ tensors: 91_991, bytes: 688_574_839_360 });
  });

  it("marks the MTP module and the copies in it that need not be loaded", () => {
    const mtp = tensorSchema(V3).filter((spec) => spec.mtp);
    expect(mtp.every((spec) => spec.layer === 61 && spec.name.startsWith("model.layers.61."))).toBe(true);
    expect(totals(mtp).bytes / 1e9).toBeCloseTo(15.42, 2);
    const copies = mtp.filter((spec) => spec.duplicateOf !== null);
    expect(copies.map(({ name, duplicateOf }) => [name, duplicateOf])).toEqual([
      ["model.layers.61.embed_tokens.weight", "model.embed_tokens.weight"],
      ["model.layers.61.shared_head.head.weight", "lm_head.weight"],
    ]);
    expect(totals(copies).bytes / 1e9).toBeCloseTo(3.71, 2);
    expect(mtp.find((spec) => spec.name.endsWith("eh_proj.weight"))).toMatchObject({ shape: [7168, 14336], kind: "plain" });
  });

  it("gives the ragged matrix of 576 rows five rows of blocks", () => {
    const spec = tensorSchema(V3).find(({ name }) => name === "model.layers.0.self_attn.kv_a_proj_with_mqa.weight");
    expect(spec).toEqual({
      name: "model.layers.0.self_attn.kv_a_proj_with_mqa.weight",
      shape: [576, 7168],
      role: "attention",
      kind: "fp8Block",
      scaleName: "model.layers.0.self_attn.kv_a_proj_with_mqa.weight_scale_inv",
      scaleShape: [5, 56],
      layer: 0,
      expert: null,
      mtp: false,
      duplicateOf: null,
    });
  });

  it("has q_proj and no correction bias for V2-Lite, with the two shared experts as one", () => {
    const specs = tensorSchema(parseDemoConfig(readJson(`${CONFIGS}config_16B.json`)));
    const layer = specs.filter((spec) => spec.layer === 1 && (spec.expert ?? 0) === 0).map(({ name, shape }) => [name.slice(15), shape]);
    expect(layer).toEqual([
      ["input_layernorm.weight", [2048]],
      ["self_attn.q_proj.weight", [3072, 2048]],
      ["self_attn.kv_a_proj_with_mqa.weight", [576, 2048]],
      ["self_attn.kv_a_layernorm.weight", [512]],
      ["self_attn.kv_b_proj.weight", [4096, 512]],
      ["self_attn.o_proj.weight", [2048, 2048]],
      ["post_attention_layernorm.weight", [2048]],
      ["mlp.gate.weight", [64, 2048]],
      ["mlp.experts.0.gate_proj.weight", [1408, 2048]],
      ["mlp.experts.0.up_proj.weight", [1408, 2048]],
      ["mlp.experts.0.down_proj.weight", [2048, 1408]],
      ["mlp.shared_experts.gate_proj.weight", [2816, 2048]],
      ["mlp.shared_experts.up_proj.weight", [2816, 2048]],
      ["mlp.shared_experts.down_proj.weight", [2048, 2816]],
    ]);
    expect(specs.every((spec) => spec.kind === "plain" && spec.scaleName === undefined)).toBe(true);
  });

  it("names every tensor once", () => {
    const specs = tensorSchema(V3);
    expect(new Set(specs.map((spec) => spec.name)).size).toBe(specs.length);
  });

  it("makes the head a copy of the embedding where they are tied", () => {
    const head = tensorSchema({ ...V3, tieWordEmbeddings: true }).find((spec) => spec.name === "lm_head.weight");
    expect(head?.duplicateOf).toBe("model.embed_tokens.weight");
  });
});
