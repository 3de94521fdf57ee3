/**
 * Every tensor of the architecture, from the config alone: name, shape, role. Names are Hugging Face's. The order is that of the forward
 * pass, which is about the order of the files. Shapes of matrices are [outputs, inputs], row-major.
 *
 * `fp8Block` matrices of a quantized model lie as F8_E4M3 with one F32 multiplier for each block of 128x128, its edge blocks ragged, in
 * `<name>_scale_inv` ("inv" does not mean divide: weight = fp8 * scale).
 */
import type { ModelConfig } from "./config.ts";

export type TensorRole =
  | "embedding"
  | "attention"
  | "denseMlp"
  | "routedExpert"
  | "sharedExpert"
  | "router"
  | "norm"
  | "head"
  | "mtpProjection";

export interface TensorSpec {
  readonly name: string;
  readonly shape: readonly number[];
  readonly role: TensorRole;
  readonly kind: "fp8Block" | "plain";
  /** Of `fp8Block`: the tensor of block multipliers, present exactly where the matrix is stored as FP8. */
  readonly scaleName?: string;
  readonly scaleShape?: readonly [number, number];
  /** Null outside the layers. The MTP modules are the layers after the last. */
  readonly layer: number | null;
  /** Of routed experts. */
  readonly expert: number | null;
  /** Belongs to an MTP module. */
  readonly mtp: boolean;
  /** The tensor that this one repeats; it need not be there, nor be loaded. */
  readonly duplicateOf: string | null;
}

type Shape = readonly [number] | readonly [number, number];

/** All tensors, MTP modules included. */
export function tensorSchema(config: ModelConfig): readonly TensorSpec[] {
  const specs: TensorSpec[] = [];
  const main = new SpecBuilder(config, specs, null, "");
  main.plain("model.embed_tokens.weight", [config.vocabSize, config.hiddenSize], "embedding");
  for (let layer = 0; layer < config.nLayers; layer++) addLayer(specs, config, layer);
  main.plain("model.norm.weight", [config.hiddenSize], "norm");
  const tied = config.tieWordEmbeddings ? "model.embed_tokens.weight" : null;
  main.plain("lm_head.weight", [config.vocabSize, config.hiddenSize], "head", tied);
  for (let layer = config.nLayers; layer < config.nLayers + config.nMtpLayers; layer++) addMtpLayer(specs, config, layer);
  return specs;
}

/** Gives each tensor its layer, and FP8 matrices their scale. */
class SpecBuilder {
  readonly #config: ModelConfig;
  readonly #specs: TensorSpec[];
  readonly #layer: number | null;
  readonly #prefix: string;

  constructor(config: ModelConfig, specs: TensorSpec[], layer: number | null, prefix: string) {
    this.#config = config;
    this.#specs = specs;
    this.#layer = layer;
    this.#prefix = prefix;
  }

  plain(name: string, shape: Shape, role: TensorRole, duplicateOf: string | null = null): void {
    this.#specs.push({ ...this.#base(name, shape, role), kind: "plain", duplicateOf });
  }

  matrix(name: string, shape: readonly [number, number], role: TensorRole, expert: number | null = null): void {
    const base = { ...this.#base(name, shape, role), expert };
    const { quantization } = this.#config;
    if (quantization === null) {
      this.#specs.push({ ...base, kind: "plain" });
      return;
    }
    const [rows, columns] = quantization.blockSize;
    const scaleShape = [Math.ceil(shape[0] / rows), Math.ceil(shape[1] / columns)] as const;
    this.#specs.push({ ...base, kind: "fp8Block", scaleName: `${base.name}_scale_inv`, scaleShape });
  }

  #base(name: string, shape: Shape, role: TensorRole) {
    const layer = this.#layer;
    const mtp = layer !== null && layer >= this.#config.nLayers;
    return { name: this.#prefix + name, shape, role, layer, expert: null, mtp, duplicateOf: null };
  }
}

function addLayer(specs: TensorSpec[], config: ModelConfig, layer: number): void {
  const { hiddenSize } = config;
  const add = new SpecBuilder(config, specs, layer, `model.layers.${layer}.`);
  add.plain("input_layernorm.weight", [hiddenSize], "norm");
  addAttention(add, config);
  add.plain("post_attention_layernorm.weight", [hiddenSize], "norm");
  if (layer < config.nDenseLayers) addMlp(add, "mlp", hiddenSize, config.intermediateSize, "denseMlp");
  else addExperts(add, config);
}

function addAttention(add: SpecBuilder, config: ModelConfig): void {
  const { hiddenSize, nHeads, qLoraRank, kvLoraRank, qkNopeHeadDim, qkRopeHeadDim, vHeadDim } = config;
  const queryRows = nHeads * (qkNopeHeadDim + qkRopeHeadDim);
  if (qLoraRank === 0) {
    add.matrix("self_attn.q_proj.weight", [queryRows, hiddenSize], "attention");
  } else {
    add.matrix("self_attn.q_a_proj.weight", [qLoraRank, hiddenSize], "attention");
    add.plain("self_attn.q_a_layernorm.weight", [qLoraRank], "norm");
    add.matrix("self_attn.q_b_proj.weight", [queryRows, qLoraRank], "attention");
  }
  add.matrix("self_attn.kv_a_proj_with_mqa.weight", [kvLoraRank + qkRopeHeadDim, hiddenSize], "attention");
  add.plain("self_attn.kv_a_layernorm.weight", [kvLoraRank], "norm");
  add.matrix("self_attn.kv_b_proj.weight", [nHeads * (qkNopeHeadDim + vHeadDim), kvLoraRank], "attention");
  add.matrix("self_attn.o_proj.weight", [hiddenSize, nHeads * vHeadDim], "attention");
}

function addExperts(add: SpecBuilder, config: ModelConfig): void {
  const { hiddenSize, moeIntermediateSize, nRoutedExperts, nSharedExperts } = config;
  add.plain("mlp.gate.weight", [nRoutedExperts, hiddenSize], "router");
  if (config.hasCorrectionBias) add.plain("mlp.gate.e_score_correction_bias", [nRoutedExperts], "router");
  for (let expert = 0; expert < nRoutedExperts; expert++) {
    addMlp(add, `mlp.experts.${expert}`, hiddenSize, moeIntermediateSize, "routedExpert", expert);
  }
  // All shared experts are one MLP of their widths together.
  if (nSharedExperts > 0) addMlp(add, "mlp.shared_experts", hiddenSize, moeIntermediateSize * nSharedExperts, "sharedExpert");
}

function addMlp(add: SpecBuilder, name: string, hidden: number, width: number, role: TensorRole, expert: number | null = null): void {
  add.matrix(`${name}.gate_proj.weight`, [width, hidden], role, expert);
  add.matrix(`${name}.up_proj.weight`, [width, hidden], role, expert);
  add.matrix(`${name}.down_proj.weight`, [hidden, width], role, expert);
}

/** `eh_proj` takes [enorm(embedding); hnorm(hidden)], in this order. Embedding and head are copies of the main model's. */
function addMtpLayer(specs: TensorSpec[], config: ModelConfig, layer: number): void {
  const { hiddenSize, vocabSize } = config;
  const add = new SpecBuilder(config, specs, layer, `model.layers.${layer}.`);
  add.plain("embed_tokens.weight", [vocabSize, hiddenSize], "embedding", "model.embed_tokens.weight");
  add.plain("enorm.weight", [hiddenSize], "norm");
  add.plain("hnorm.weight", [hiddenSize], "norm");
  add.plain("eh_proj.weight", [hiddenSize, 2 * hiddenSize], "mtpProjection");
  addLayer(specs, config, layer);
  add.plain("shared_head.norm.weight", [hiddenSize], "norm");
  add.plain(
    "shared_head.head.weight",
    [vocabSize, hiddenSize],
    "head",
    config.tieWordEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight",
  );
}
