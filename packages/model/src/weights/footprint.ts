/**
 * What weights take on a device, from the config and the headers alone: every tensor once, in its stored format. Beyond the stored bytes come only paddings, each said
 * here: rows up to 16 elements, stacked matrices up to 128 rows, the last slice of an MLP that is cut, and small tensors (norms, biases) as f32, those of an attention up to 64 elements. Pure.
 */
import type { CheckpointSource } from "@shoal/checkpoint";
import { CHUNK, FORMAT_BYTES, SCALE_BLOCK, type WeightFormat, roundUp } from "@shoal/kernels";
import { mlpSlices, sharedFitsGroup } from "./layout.ts";
import type { LayerRange } from "./model.ts";
import { VECTOR_ALIGNMENT } from "./reader.ts";

const FORMATS: Readonly<Record<string, WeightFormat>> = { F8_E4M3: "fp8", BF16: "bf16", F16: "f16", F32: "f32" };

export interface FootprintOptions {
  /** All layers, if not given. */
  readonly range?: LayerRange;
  readonly mtp: boolean;
  /** Whether routed experts are somewhere else; false by default. */
  readonly givesExperts?: boolean;
}

/** Bytes of all buffers that `loadWeights` makes with kind "weights". */
export function weightBytes(
  checkpoint: Pick<CheckpointSource, "config" | "tensors">,
  { range, mtp, givesExperts = false }: FootprintOptions,
): number {
  return new Footprint(checkpoint, givesExperts).model(range ?? { begin: 0, end: checkpoint.config.nLayers }, mtp);
}

class Footprint {
  readonly #config: CheckpointSource["config"];
  readonly #tensors: CheckpointSource["tensors"]["tensors"];
  readonly #givesExperts: boolean;

  constructor({ config, tensors }: Pick<CheckpointSource, "config" | "tensors">, givesExperts: boolean) {
    this.#config = config;
    this.#tensors = tensors.tensors;
    this.#givesExperts = givesExperts;
  }

  model({ begin, end }: LayerRange, mtp: boolean): number {
    const { nLayers, nMtpLayers } = this.#config;
    const last = end === nLayers;
    const withMtp = last && mtp && nMtpLayers > 0;
    const embedded = begin === 0 || (last && mtp);
    let bytes = embedded ? this.#matrix("model.embed_tokens.weight") : 0;
    for (let index = begin; index < end; index++) bytes += this.#layer(index);
    if (last) bytes += this.#vector("model.norm.weight") + this.#head(embedded);
    return bytes + (withMtp ? this.#mtp() : 0);
  }

  #head(embedded: boolean): number {
    if (this.#tensors.has("lm_head.weight")) return this.#matrix("lm_head.weight");
    return embedded ? 0 : this.#matrix("model.embed_tokens.weight");
  }

  #mtp(): number {
    const prefix = `model.layers.${this.#config.nLayers}`;
    const norms = ["enorm", "hnorm", "shared_head.norm"].reduce((sum, name) => sum + this.#vector(`${prefix}.${name}.weight`), 0);
    return norms + this.#matrix(`${prefix}.eh_proj.weight`) + this.#layer(this.#config.nLayers);
  }

  #layer(index: number): number {
    const { qLoraRank, hiddenSize, intermediateSize, nDenseLayers } = this.#config;
    const prefix = `model.layers.${index}`;
    const attention = `${prefix}.self_attn`;
    const lowRank = qLoraRank > 0;
    const norms = [`${prefix}.input_layernorm`, `${attention}.kv_a_layernorm`, ...(lowRank ? [`${attention}.q_a_layernorm`] : [])];
    const matrices = ["kv_b_proj", "o_proj", ...(lowRank ? ["q_b_proj"] : [])];
    return (
      this.#vectors(norms.map((name) => `${name}.weight`)) +
      this.#vector(`${prefix}.post_attention_layernorm.weight`) +
      this.#stacked([`${attention}.${lowRank ? "q_a_proj" : "q_proj"}.weight`, `${attention}.kv_a_proj_with_mqa.weight`]) +
      matrices.reduce((sum, name) => sum + this.#matrix(`${attention}.${name}.weight`), 0) +
      (index < nDenseLayers ? this.#cut(`${prefix}.mlp`, hiddenSize, intermediateSize) : this.#moe(`${prefix}.mlp`))
    );
  }

  #moe(prefix: string): number {
    const { nRoutedExperts, nSharedExperts, hiddenSize, moeIntermediateSize: width, hasCorrectionBias } = this.#config;
    const format = this.#format(`${prefix}.experts.0.gate_proj.weight`);
    const shared = `${prefix}.shared_experts`;
    const router = this.#matrix(`${prefix}.gate.weight`) + (hasCorrectionBias ? this.#vector(`${prefix}.gate.e_score_correction_bias`) : 0);
    if (this.#givesExperts) return router + (nSharedExperts > 0 ? this.#cut(shared, hiddenSize, width * nSharedExperts) : 0);
    const together =
      nSharedExperts > 0 && this.#format(`${shared}.gate_proj.weight`) === format && sharedFitsGroup(nSharedExperts, width, format);
    return (
      router +
      experts(nRoutedExperts + (together ? nSharedExperts : 0), hiddenSize, width, format) +
      (together || nSharedExperts === 0 ? 0 : this.#cut(shared, hiddenSize, width * nSharedExperts))
    );
  }

  /** An MLP cut into slices. */
  #cut(name: string, hidden: number, columns: number): number {
    const { count, width } = mlpSlices(columns);
    return experts(count, hidden, width, this.#format(`${name}.gate_proj.weight`));
  }

  #vector(name: string): number {
    const [length = 0] = this.#tensors.get(name)?.shape ?? [];
    return roundUp(length, CHUNK) * 4;
  }

  /** In one buffer. */
  #vectors(names: readonly string[]): number {
    return names.reduce((end, name) => roundUp(end, VECTOR_ALIGNMENT * 4) + this.#vector(name), 0);
  }

  #matrix(name: string): number {
    const [rows = 0, cols = 0] = this.#tensors.get(name)?.shape ?? [];
    return matrix(rows, cols, this.#format(name));
  }

  #stacked(names: readonly string[]): number {
    const formats = new Set(names.map((name) => this.#format(name)));
    if (formats.size > 1) return names.reduce((sum, name) => sum + this.#matrix(name), 0);
    let rows = 0;
    let cols = 0;
    for (const name of names) {
      const [more = 0, columns = 0] = this.#tensors.get(name)?.shape ?? [];
      rows = roundUp(rows, SCALE_BLOCK) + more;
      cols = columns;
    }
    return matrix(rows, cols, this.#format(names[0] ?? ""));
  }

  #format(name: string): WeightFormat {
    return FORMATS[this.#tensors.get(name)?.dtype ?? ""] ?? "f32";
  }
}

function matrix(rows: number, cols: number, format: WeightFormat): number {
  const scales = format === "fp8" ? scaleBytes(1, rows, cols) : 0;
  return rows * roundUp(cols, CHUNK) * FORMAT_BYTES[format] + scales;
}

function experts(count: number, hidden: number, width: number, format: WeightFormat): number {
  const elements = 2 * width * roundUp(hidden, CHUNK) + hidden * roundUp(width, CHUNK);
  const scales = format === "fp8" ? scaleBytes(count * 2, width, hidden) + scaleBytes(count, hidden, width) : 0;
  return count * elements * FORMAT_BYTES[format] + scales;
}

/** One buffer; sizes of buffers are multiples of 16. */
function scaleBytes(count: number, rows: number, cols: number): number {
  return roundUp(count * Math.ceil(rows / SCALE_BLOCK) * Math.ceil(cols / SCALE_BLOCK) * 4, CHUNK);
}
