/** All weights of one layer, and of what stands before and after the layers. */
import type { ModelConfig } from "@shoal/checkpoint";
import { type ExpertGroup, type WeightMatrix, encodeRouting } from "@shoal/kernels";
import { ModelError } from "../errors.ts";
import { loadExperts, mlpFormat } from "./experts.ts";
import { mlpSlices, sharedFitsGroup } from "./layout.ts";
import { type StackedMatrix, loadMatrix, loadStacked } from "./matrices.ts";
import type { StackedVectors, WeightReader } from "./reader.ts";

type NormRange = StackedVectors["ranges"][number];

export interface AttentionWeights {
  /** Projections of the layer's input: q_a_proj (or q_proj) and kv_a_proj_with_mqa. */
  readonly input: StackedMatrix;
  /** All norms of the attention, and each of them: input_layernorm, kv_a_layernorm, q_a_layernorm. */
  readonly norms: GPUBuffer;
  readonly inputNorm: NormRange;
  readonly kvNorm: NormRange;
  /** Absent without low-rank queries. */
  readonly query?: { readonly norm: NormRange; readonly projection: WeightMatrix };
  readonly kvB: WeightMatrix;
  readonly output: WeightMatrix;
}

/** Experts that every token uses, with weight 1. */
export interface FixedExperts {
  readonly group: ExpertGroup;
  /** [maxTokens, group.count] pairs: experts 0, 1, 2, ... with weight 1. */
  readonly routing: GPUBuffer;
}

/** Experts that each token chooses from. */
export interface RoutedExperts {
  readonly gate: WeightMatrix;
  /** e_score_correction_bias [nRoutedExperts] */
  readonly bias?: GPUBuffer;
  /** The routed experts, then `sharedSlots` slices of the shared ones; absent where a shard has the routed ones. */
  readonly group?: ExpertGroup;
  readonly sharedSlots: number;
}

export interface MlpWeights {
  readonly norm: GPUBuffer;
  /** Absent in dense layers. */
  readonly routed?: RoutedExperts;
  /** A dense MLP, or shared experts that do not fit the routed group. */
  readonly fixed?: FixedExperts;
}

export interface LayerWeights {
  readonly index: number;
  readonly attention: AttentionWeights;
  readonly mlp: MlpWeights;
}

/** @param givesExperts whether the routed experts are somewhere else */
export async function loadLayer(
  reader: WeightReader,
  config: ModelConfig,
  index: number,
  maxTokens: number,
  givesExperts = false,
): Promise<LayerWeights> {
  const prefix = `model.layers.${index}`;
  const attention = await loadAttention(reader, config, prefix);
  const norm = await reader.vector(`${prefix}.post_attention_layernorm.weight`);
  const dense = index < config.nDenseLayers;
  const mlp = dense
    ? { norm, fixed: await loadFixed(reader, `${prefix}.mlp`, config.hiddenSize, config.intermediateSize, maxTokens) }
    : { norm, ...(await loadMoe(reader, config, `${prefix}.mlp`, maxTokens, givesExperts)) };
  return { index, attention, mlp };
}

async function loadAttention(reader: WeightReader, config: ModelConfig, layer: string): Promise<AttentionWeights> {
  const prefix = `${layer}.self_attn`;
  const lowRank = config.qLoraRank > 0;
  const names = [`${layer}.input_layernorm`, `${prefix}.kv_a_layernorm`, ...(lowRank ? [`${prefix}.q_a_layernorm`] : [])];
  const norms = await reader.vectors(names.map((name) => `${name}.weight`));
  const [inputNorm, kvNorm, queryNorm] = norms.ranges;
  if (!inputNorm || !kvNorm) throw new RangeError("vectors() gave fewer than it was asked for");
  const input = await loadStacked(reader, [`${prefix}.${lowRank ? "q_a_proj" : "q_proj"}.weight`, `${prefix}.kv_a_proj_with_mqa.weight`]);
  const query = queryNorm && { norm: queryNorm, projection: await loadMatrix(reader, `${prefix}.q_b_proj.weight`) };
  return {
    input,
    norms: norms.buffer,
    inputNorm,
    kvNorm,
    ...(query && { query }),
    kvB: await loadMatrix(reader, `${prefix}.kv_b_proj.weight`),
    output: await loadMatrix(reader, `${prefix}.o_proj.weight`),
  };
}

async function loadFixed(reader: WeightReader, name: string, hidden: number, columns: number, maxTokens: number): Promise<FixedExperts> {
  const { count, width } = mlpSlices(columns);
  const group = await loadExperts(reader, name, hidden, width, [{ name, first: 0, count }]);
  const pairs = Array.from({ length: maxTokens * count }, (_, index) => ({ expert: index % count, weight: 1 }));
  return { group, routing: reader.gpu.upload(`${name} routing`, encodeRouting(pairs), "tables") };
}

async function loadMoe(
  reader: WeightReader,
  config: ModelConfig,
  prefix: string,
  maxTokens: number,
  givesExperts: boolean,
): Promise<Omit<MlpWeights, "norm">> {
  const { nRoutedExperts, nSharedExperts, hiddenSize, moeIntermediateSize: width } = config;
  const gate = await loadMatrix(reader, `${prefix}.gate.weight`);
  if (gate.format === "fp8")
    throw new ModelError("unsupported", `Cannot load '${prefix}.gate.weight': it is FP8, expected BF16, F16 or F32`);
  const bias = config.hasCorrectionBias ? await reader.vector(`${prefix}.gate.e_score_correction_bias`) : undefined;
  const shared = `${prefix}.shared_experts`;
  if (givesExperts) {
    const fixed = nSharedExperts > 0 ? await loadFixed(reader, shared, hiddenSize, width * nSharedExperts, maxTokens) : undefined;
    return { routed: { gate, ...(bias && { bias }), sharedSlots: 0 }, ...(fixed && { fixed }) };
  }
  const sources = Array.from({ length: nRoutedExperts }, (_, expert) => ({ name: `${prefix}.experts.${expert}`, first: expert, count: 1 }));
  const format = mlpFormat(reader, sources[0]?.name ?? "");
  const together = nSharedExperts > 0 && mlpFormat(reader, shared) === format && sharedFitsGroup(nSharedExperts, width, format);
  if (together) sources.push({ name: shared, first: nRoutedExperts, count: nSharedExperts });
  const group = await loadExperts(reader, prefix, hiddenSize, width, sources);
  const routed = { gate, ...(bias && { bias }), group, sharedSlots: together ? nSharedExperts : 0 };
  if (together || nSharedExperts === 0) return { routed };
  return { routed, fixed: await loadFixed(reader, shared, hiddenSize, width * nSharedExperts, maxTokens) };
}
