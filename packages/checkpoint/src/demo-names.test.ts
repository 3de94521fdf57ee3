import { describe, expect, it } from "vitest";

import { CONFIGS, DEEPSEEK_V3, readJson } from "../test/fixtures.ts";
import { parseDemoConfig } from "./demo-config.ts";
import { toDemoName, toHfName } from "./demo-names.ts";
import { parseHfConfig } from "./hf-config.ts";
import { tensorSchema } from "./tensor-schema.ts";

/** What the demo's convert.py does to a name, step by step. */
function convertPy(name: string): string {
  const table: Readonly<Record<string, string>> = {
    embed_tokens: "embed",
    input_layernorm: "attn_norm",
    post_attention_layernorm: "ffn_norm",
    q_proj: "wq",
    q_a_proj: "wq_a",
    q_a_layernorm: "q_norm",
    q_b_proj: "wq_b",
    kv_a_proj_with_mqa: "wkv_a",
    kv_a_layernorm: "kv_norm",
    kv_b_proj: "wkv_b",
    o_proj: "wo",
    gate: "gate",
    gate_proj: "w1",
    down_proj: "w2",
    up_proj: "w3",
    norm: "norm",
    lm_head: "head",
  };
  const renamed = name
    .replace(/^model\./, "")
    .replaceAll("self_attn", "attn")
    .replaceAll("mlp", "ffn")
    .replaceAll("weight_scale_inv", "scale")
    .replaceAll("e_score_correction_bias", "bias");
  const key = renamed.split(".").at(-2) ?? "";
  return renamed.replaceAll(key, table[key] ?? "?");
}

const configs = [parseHfConfig({ ...DEEPSEEK_V3, num_nextn_predict_layers: 0 }), parseDemoConfig(readJson(`${CONFIGS}config_16B.json`))];

describe("toHfName() and toDemoName()", () => {
  it("undo each other and agree with convert.py on every tensor of V3 and V2-Lite", () => {
    for (const spec of configs.flatMap((config) => tensorSchema(config))) {
      for (const name of spec.scaleName === undefined ? [spec.name] : [spec.name, spec.scaleName]) {
        if ((spec.expert ?? 0) > 1) continue;
        expect(toDemoName(name)).toBe(convertPy(name));
        expect(toHfName(toDemoName(name))).toBe(name);
      }
    }
  });

  it("leave names alone that have no counterpart", () => {
    for (const name of ["layers.0.attn.other.weight", "x", "layers.x.attn.wo.weight", "layers.0.ffn.experts.a.w1.weight"]) {
      expect(toHfName(name)).toBe(name);
    }
  });
});
