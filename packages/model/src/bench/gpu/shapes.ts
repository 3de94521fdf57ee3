/** What the suite runs at: DeepSeek's published shapes, or small ones of the same kind for software adapters, whose times mean little. */
import { type ModelConfig, parseDemoConfig } from "@shoal/checkpoint";
import type { SingleShapes } from "@shoal/kernels/bench";
import type { LayerRange } from "../../weights/model.ts";

/** The parsed configs of DeepSeek's demo (configs/config_16B.json, config_671B.json), which the shapes are cut from. */
export interface DemoConfigs {
  readonly demo16B: object;
  readonly demo671B: object;
}

export interface GpuBenchShapes {
  readonly kernels: SingleShapes;
  /** One MoE layer of DeepSeek-V3. */
  readonly layer: {
    readonly title: string;
    readonly config: ModelConfig;
    readonly range: LayerRange;
    /** Positions in the cache before the timed step. */
    readonly shortContext: number;
    readonly longContext: number;
    readonly prefillTokens: number;
  };
  /** A whole model of DeepSeek-V2-Lite's shape, in FP8. */
  readonly model: {
    readonly title: string;
    readonly config: ModelConfig;
    readonly promptTokens: number;
    /** Tokens decoded in a sample, and how many samples there are. */
    readonly decodedTokens: number;
    readonly sequences: number;
    readonly prefillTokens: number;
  };
  /** Timed runs of each kind. */
  readonly samples: number;
  /** Decoded before anything is timed. */
  readonly warmUpTokens: number;
  /** About as many milliseconds of work are timed at once. */
  readonly submitMs: number;
}

/** Layers besides the timed one are not loaded: a dense one comes before it as in the model, and one after it keeps the head away. */
const layerOf = (json: object): { readonly config: ModelConfig; readonly range: LayerRange } => {
  const config = parseDemoConfig({ ...json, n_layers: 3, n_dense_layers: 1, max_seq_len: 65_536 });
  return { config, range: { begin: 1, end: 2 } };
};

/** @throws ConfigError for configs that are not the demo's */
export function gpuBenchShapes(size: "full" | "small", configs: DemoConfigs): GpuBenchShapes {
  return size === "full" ? fullShapes(configs) : smallShapes(configs);
}

function fullShapes({ demo16B, demo671B }: DemoConfigs): GpuBenchShapes {
  return {
    kernels: {
      readBytes: [512 * 2 ** 20, 1792 * 2 ** 20],
      hidden: 7168,
      width: 2048,
      experts: 256,
      slots: 9,
      vocab: 129_280,
      matmul: [7168, 16_384, 512],
    },
    layer: { title: "one MoE layer of the 671B model", ...layerOf(demo671B), shortContext: 128, longContext: 32_768, prefillTokens: 512 },
    model: {
      title: "the 16B model",
      config: parseDemoConfig({ ...demo16B, dtype: "fp8" }),
      promptTokens: 128,
      decodedTokens: 128,
      sequences: 32,
      prefillTokens: 512,
    },
    samples: 5,
    warmUpTokens: 32,
    submitMs: 120,
  };
}

/** Widths with ragged scale blocks, several experts a token, all of the kernels. */
function smallShapes({ demo16B, demo671B }: DemoConfigs): GpuBenchShapes {
  const common = { vocab_size: 1024, dim: 256, inter_dim: 352, moe_inter_dim: 128, n_heads: 4, kv_lora_rank: 128 };
  const heads = { qk_nope_head_dim: 32, qk_rope_head_dim: 16, v_head_dim: 32 };
  return {
    kernels: { readBytes: [2 ** 24], hidden: 512, width: 256, experts: 16, slots: 9, vocab: 2048, matmul: [512, 1024, 64] },
    layer: {
      title: "one small MoE layer",
      ...layerOf({ ...demo671B, ...common, ...heads, q_lora_rank: 96, n_routed_experts: 32 }),
      shortContext: 24,
      longContext: 300,
      prefillTokens: 48,
    },
    model: {
      title: "a small model",
      config: parseDemoConfig({ ...demo16B, ...common, ...heads, dtype: "fp8", n_layers: 3, n_routed_experts: 16 }),
      promptTokens: 16,
      decodedTokens: 4,
      sequences: 10,
      prefillTokens: 48,
    },
    samples: 3,
    warmUpTokens: 2,
    submitMs: 0,
  };
}
