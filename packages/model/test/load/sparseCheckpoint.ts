/**
 * Checkpoints of true shapes that take no disk: config, index and shards with valid headers, whose data is a hole. All weights are zero, and a file system gives
 * them as fast as a warm file, for it makes the pages of a hole in the page cache too.
 */
import { open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseHfConfig, tensorSchema } from "@shoal/checkpoint";
import { type TensorDeclaration, layoutSafetensors } from "@shoal/safetensors";

export interface SparseCheckpoint {
  readonly bytes: number;
  readonly shards: number;
  /** Whether the file system keeps holes: otherwise the data lies on the disk. */
  readonly sparse: boolean;
}

/** About as large as published ones. */
const SHARD_BYTES = 5 * 2 ** 30;

const FP8 = { activation_scheme: "dynamic", fmt: "e4m3", quant_method: "fp8", weight_block_size: [128, 128] };

/** DeepSeek-V2-Lite's shapes in FP8: 0.58 GB a layer. */
export function liteConfig(layers: number): Record<string, unknown> {
  return {
    architectures: ["DeepseekV2ForCausalLM"],
    model_type: "deepseek_v2",
    attention_bias: false,
    bos_token_id: 0,
    eos_token_id: 1,
    first_k_dense_replace: 1,
    hidden_act: "silu",
    hidden_size: 2048,
    intermediate_size: 10944,
    kv_lora_rank: 512,
    max_position_embeddings: 4096,
    moe_intermediate_size: 1408,
    moe_layer_freq: 1,
    n_group: 1,
    n_routed_experts: 64,
    n_shared_experts: 2,
    norm_topk_prob: false,
    num_attention_heads: 16,
    num_experts_per_tok: 6,
    num_hidden_layers: layers,
    num_key_value_heads: 16,
    q_lora_rank: null,
    qk_nope_head_dim: 128,
    qk_rope_head_dim: 64,
    quantization_config: FP8,
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    routed_scaling_factor: 1.0,
    scoring_func: "softmax",
    tie_word_embeddings: false,
    topk_group: 1,
    topk_method: "greedy",
    v_head_dim: 128,
    vocab_size: 102400,
  };
}

/** DeepSeek-V3's shapes: a dense layer, then layers of 256 experts of 11.5 GB each. */
export function v3Config(layers: number): Record<string, unknown> {
  return {
    architectures: ["DeepseekV3ForCausalLM"],
    model_type: "deepseek_v3",
    attention_bias: false,
    bos_token_id: 0,
    eos_token_id: 1,
    first_k_dense_replace: 1,
    hidden_act: "silu",
    hidden_size: 7168,
    intermediate_size: 18432,
    kv_lora_rank: 512,
    max_position_embeddings: 163840,
    moe_intermediate_size: 2048,
    moe_layer_freq: 1,
    n_group: 8,
    n_routed_experts: 256,
    n_shared_experts: 1,
    norm_topk_prob: true,
    num_attention_heads: 128,
    num_experts_per_tok: 8,
    num_hidden_layers: layers,
    num_key_value_heads: 128,
    num_nextn_predict_layers: 0,
    q_lora_rank: 1536,
    qk_nope_head_dim: 128,
    qk_rope_head_dim: 64,
    quantization_config: FP8,
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    routed_scaling_factor: 2.5,
    scoring_func: "sigmoid",
    tie_word_embeddings: false,
    topk_group: 4,
    topk_method: "noaux_tc",
    v_head_dim: 128,
    vocab_size: 129280,
  };
}

/** @param directory an empty one */
export async function writeSparseCheckpoint(directory: string, hfConfig: Record<string, unknown>): Promise<SparseCheckpoint> {
  const shards: TensorDeclaration[][] = [[]];
  let inShard = 0;
  const declare = (tensor: TensorDeclaration, bytes: number): void => {
    if (inShard + bytes > SHARD_BYTES) {
      shards.push([]);
      inShard = 0;
    }
    inShard += bytes;
    shards.at(-1)?.push(tensor);
  };
  for (const { name, shape, kind, scaleName, scaleShape = [0, 0] } of tensorSchema(parseHfConfig(hfConfig))) {
    const count = shape.reduce((product, size) => product * size, 1);
    const dtype = kind === "fp8Block" ? "F8_E4M3" : name.endsWith("e_score_correction_bias") ? "F32" : "BF16";
    declare({ name, dtype, shape }, count * { F8_E4M3: 1, BF16: 2, F32: 4 }[dtype]);
    if (scaleName !== undefined) declare({ name: scaleName, dtype: "F32", shape: scaleShape }, scaleShape[0] * scaleShape[1] * 4);
  }
  const weightMap: Record<string, string> = {};
  let bytes = 0;
  let stored = 0;
  for (const [index, tensors] of shards.entries()) {
    const name = `model-${String(index + 1).padStart(5, "0")}-of-${String(shards.length).padStart(5, "0")}.safetensors`;
    const layout = layoutSafetensors(tensors);
    const file = await open(join(directory, name), "w");
    try {
      await file.write(layout.header);
      await file.truncate(layout.byteLength);
      stored += (await file.stat()).blocks * 512;
    } finally {
      await file.close();
    }
    for (const tensor of tensors) weightMap[tensor.name] = name;
    bytes += layout.byteLength;
  }
  await writeFile(join(directory, "config.json"), JSON.stringify(hfConfig));
  const index = { metadata: { total_size: bytes }, weight_map: weightMap };
  await writeFile(join(directory, "model.safetensors.index.json"), JSON.stringify(index));
  return { bytes, shards: shards.length, sparse: stored < bytes / 16 };
}
