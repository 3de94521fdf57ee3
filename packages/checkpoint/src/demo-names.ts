/**
 * The demo's tensor names (its convert.py writes them) and Hugging Face's, both ways. Layers and experts keep their numbers; each part of a
 * name has one counterpart. A name without one stays as it is.
 */

const TOP: readonly (readonly [hf: string, demo: string])[] = [
  ["model.embed_tokens.weight", "embed.weight"],
  ["model.norm.weight", "norm.weight"],
  ["lm_head.weight", "head.weight"],
];

/** Inside a layer, after its number. */
const MODULES: readonly (readonly [hf: string, demo: string])[] = [
  ["input_layernorm", "attn_norm"],
  ["post_attention_layernorm", "ffn_norm"],
  ["self_attn.q_proj", "attn.wq"],
  ["self_attn.q_a_proj", "attn.wq_a"],
  ["self_attn.q_a_layernorm", "attn.q_norm"],
  ["self_attn.q_b_proj", "attn.wq_b"],
  ["self_attn.kv_a_proj_with_mqa", "attn.wkv_a"],
  ["self_attn.kv_a_layernorm", "attn.kv_norm"],
  ["self_attn.kv_b_proj", "attn.wkv_b"],
  ["self_attn.o_proj", "attn.wo"],
  ["mlp.gate", "ffn.gate"],
  ["mlp.gate_proj", "ffn.w1"],
  ["mlp.down_proj", "ffn.w2"],
  ["mlp.up_proj", "ffn.w3"],
  ["mlp.shared_experts.gate_proj", "ffn.shared_experts.w1"],
  ["mlp.shared_experts.down_proj", "ffn.shared_experts.w2"],
  ["mlp.shared_experts.up_proj", "ffn.shared_experts.w3"],
  ["mlp.experts.#.gate_proj", "ffn.experts.#.w1"],
  ["mlp.experts.#.down_proj", "ffn.experts.#.w2"],
  ["mlp.experts.#.up_proj", "ffn.experts.#.w3"],
];

const LEAVES: readonly (readonly [hf: string, demo: string])[] = [
  ["weight", "weight"],
  ["weight_scale_inv", "scale"],
  ["e_score_correction_bias", "bias"],
];

const swap = (pairs: typeof TOP) => new Map(pairs.map(([hf, demo]) => [demo, hf]));
const TO_HF = { top: swap(TOP), modules: swap(MODULES), leaves: swap(LEAVES), from: /^layers\.(\d+)\.(.+)\.([^.]+)$/, to: "model.layers." };
const TO_DEMO = {
  top: new Map(TOP),
  modules: new Map(MODULES),
  leaves: new Map(LEAVES),
  from: /^model\.layers\.(\d+)\.(.+)\.([^.]+)$/,
  to: "layers.",
};

export function toHfName(demoName: string): string {
  return translate(demoName, TO_HF);
}

export function toDemoName(hfName: string): string {
  return translate(hfName, TO_DEMO);
}

function translate(name: string, way: typeof TO_HF): string {
  const top = way.top.get(name);
  if (top !== undefined) return top;
  const [, layer, path = "", leaf = ""] = way.from.exec(name) ?? [];
  const expert = /\.experts\.(\d+)\./.exec(path)?.[1];
  const module = way.modules.get(expert === undefined ? path : path.replace(`.experts.${expert}.`, ".experts.#."));
  const newLeaf = way.leaves.get(leaf);
  if (layer === undefined || module === undefined || newLeaf === undefined) return name;
  return `${way.to}${layer}.${module.replace("#", expert ?? "#")}.${newLeaf}`;
}
