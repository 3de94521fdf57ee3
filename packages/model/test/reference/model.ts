/**
 * deepseek_v3 in f64, token by token, as its papers and DeepSeek's own code (inference/model.py) have it: written for being read, and for telling which of its discrete
 * choices hang by a rounding error (`ties.ts`). Shares nothing with the kernels but the frequencies of RoPE.
 */
import { type CheckpointSource, type ModelConfig, ropeInvFreq, softmaxScale } from "@shoal/checkpoint";
import { type Choices, ROUTER_TIE, TIE } from "./ties.ts";
import { ReferenceWeights, element, product } from "./weights.ts";

interface CachedToken {
  readonly latent: Float64Array;
  readonly ropeKey: Float64Array;
}

export class ReferenceModel {
  readonly config: ModelConfig;
  readonly #weights: ReferenceWeights;
  readonly #frequencies: Float32Array;
  /** By layer, then position. A position computed again replaces what was there. */
  readonly #cache: CachedToken[][] = [];

  constructor(checkpoint: CheckpointSource, weights: ReferenceWeights = new ReferenceWeights(checkpoint)) {
    this.config = checkpoint.config;
    this.#weights = weights;
    this.#frequencies = ropeInvFreq(checkpoint.config);
  }

  /** The residual stream after the last layer, of a token after those of the positions before. */
  async row(token: number, position: number, choices: Choices): Promise<Float64Array> {
    let x = await this.embedding(token);
    for (let layer = 0; layer < this.config.nLayers; layer++) x = await this.layer(x, layer, position, choices);
    return x;
  }

  /** Logits from the residual stream after the last layer. */
  async head(x: Float64Array, choices: Choices): Promise<Float64Array> {
    return this.#linear(await this.#norm(x, "model.norm.weight"), "lm_head", choices);
  }

  /** Logits for the token after `next`, which follows the row whose residual stream after the last layer is `x`. */
  async draft(next: number, x: Float64Array, position: number, choices: Choices): Promise<Float64Array> {
    const layer = this.config.nLayers;
    const prefix = `model.layers.${layer}`;
    const embedding = await this.#norm(await this.embedding(next), `${prefix}.enorm.weight`);
    const hidden = await this.#norm(await this.#norm(x, "model.norm.weight"), `${prefix}.hnorm.weight`);
    const y = await this.layer(
      await this.#linear(Float64Array.of(...embedding, ...hidden), `${prefix}.eh_proj`, choices),
      layer,
      position,
      choices,
    );
    return this.#linear(await this.#norm(y, `${prefix}.shared_head.norm.weight`), "lm_head", choices);
  }

  /** The residual stream after a layer; its caches get this position, and must hold those before it. */
  async layer(x: Float64Array, layer: number, position: number, choices: Choices): Promise<Float64Array> {
    const prefix = `model.layers.${layer}`;
    const attended = add(x, await this.#attention(await this.#norm(x, `${prefix}.input_layernorm.weight`), layer, position, choices));
    const normed = await this.#norm(attended, `${prefix}.post_attention_layernorm.weight`);
    const dense = layer < this.config.nDenseLayers;
    return add(attended, dense ? await this.#mlp(normed, `${prefix}.mlp`, choices) : await this.#experts(normed, `${prefix}.mlp`, choices));
  }

  async #attention(x: Float64Array, layer: number, position: number, choices: Choices): Promise<Float64Array> {
    const { nHeads, qkNopeHeadDim: nope, qkRopeHeadDim: rope, vHeadDim, kvLoraRank, latentNormEps } = this.config;
    const prefix = `model.layers.${layer}.self_attn`;
    const input = choices.quantize(x, `${prefix} input`);
    const queryLatent = await this.#norm(
      product(await this.#weights.matrix(`${prefix}.q_a_proj`), input),
      `${prefix}.q_a_layernorm.weight`,
      latentNormEps,
    );
    const q = await this.#linear(queryLatent, `${prefix}.q_b_proj`, choices);
    const kv = product(await this.#weights.matrix(`${prefix}.kv_a_proj_with_mqa`), input);
    const latent = await this.#norm(kv.slice(0, kvLoraRank), `${prefix}.kv_a_layernorm.weight`, latentNormEps);
    const cache = (this.#cache[layer] ??= []);
    cache[position] = { latent, ropeKey: this.#rotate(kv.slice(kvLoraRank), position) };
    const kvB = await this.#weights.matrix(`${prefix}.kv_b_proj`);
    const scale = softmaxScale(this.config);
    const out = new Float64Array(nHeads * vHeadDim);
    for (let head = 0; head < nHeads; head++) {
      const query = q.subarray(head * (nope + rope), (head + 1) * (nope + rope));
      const queryRope = this.#rotate(query.slice(nope), position);
      const rows = head * (nope + vHeadDim);
      const absorbed = new Float64Array(kvLoraRank);
      for (let i = 0; i < nope; i++)
        for (let j = 0; j < kvLoraRank; j++) absorbed[j] = (absorbed[j] ?? 0) + (query[i] ?? 0) * element(kvB, rows + i, j);
      const scores = cache.slice(0, position + 1).map((token) => (dot(absorbed, token.latent) + dot(queryRope, token.ropeKey)) * scale);
      const largest = Math.max(...scores);
      const shares = scores.map((score) => Math.exp(score - largest));
      const total = shares.reduce((a, b) => a + b, 0);
      const mixed = new Float64Array(kvLoraRank);
      for (const [index, share] of shares.entries()) addScaled(mixed, cache[index]?.latent ?? mixed, share / total);
      out.set(product(kvB, mixed, rows + nope, rows + nope + vHeadDim), head * vHeadDim);
    }
    return this.#linear(out, `${prefix}.o_proj`, choices);
  }

  async #experts(x: Float64Array, prefix: string, choices: Choices): Promise<Float64Array> {
    const { nRoutedExperts, nActivatedExperts, nExpertGroups, topkGroup, routedScalingFactor, normTopkProb } = this.config;
    const scores = product(await this.#weights.matrix(`${prefix}.gate`), x).map((logit) => 1 / (1 + Math.exp(-logit)));
    const bias = await this.#weights.vector(`${prefix}.gate.e_score_correction_bias`);
    const biased = scores.map((score, expert) => score + (bias[expert] ?? 0));
    const perGroup = nRoutedExperts / nExpertGroups;
    const best = (items: readonly number[], score: (item: number) => number, count: number, site: string): readonly number[] => {
      const ranked = items.toSorted((a, b) => score(b) - score(a));
      const [last = 0, next = 0] = ranked.slice(count - 1, count + 1);
      const margin = ranked.length > count ? score(last) - score(next) : 1;
      const turned = margin < ROUTER_TIE && choices.turned(`${prefix} ${site}`, margin);
      const chosen = [...ranked.slice(0, count - 1), turned ? next : last].sort((a, b) => a - b);
      for (const item of chosen) choices.note(item, (margin / ROUTER_TIE) * TIE);
      return chosen;
    };
    const range = (count: number): readonly number[] => Array.from({ length: count }, (_, index) => index);
    const groupScore = (group: number): number => {
      const [first = 0, second = 0] = [...biased.subarray(group * perGroup, (group + 1) * perGroup)].sort((a, b) => b - a);
      return first + second;
    };
    const groups = best(range(nExpertGroups), groupScore, topkGroup, "groups");
    const allowed = range(nRoutedExperts).filter((expert) => groups.includes(Math.floor(expert / perGroup)));
    const experts = best(allowed, (expert) => biased[expert] ?? 0, nActivatedExperts, "experts");
    const total = normTopkProb ? experts.reduce((sum, expert) => sum + (scores[expert] ?? 0), 1e-20) : 1;
    const out = await this.#mlp(x, `${prefix}.shared_experts`, choices);
    for (const expert of experts)
      addScaled(
        out,
        await this.#mlp(x, `${prefix}.experts.${expert}`, choices, `${prefix} input`),
        ((scores[expert] ?? 0) / total) * routedScalingFactor,
      );
    return out;
  }

  /** @param site names the input: that of all experts of a layer is one and the same */
  async #mlp(
    x: Float64Array,
    prefix: string,
    choices: Choices,
    site = `${prefix.replace(/\.shared_experts$/, "")} input`,
  ): Promise<Float64Array> {
    const input = choices.quantize(x, site);
    const gate = product(await this.#weights.matrix(`${prefix}.gate_proj`), input);
    const up = product(await this.#weights.matrix(`${prefix}.up_proj`), input);
    return this.#linear(
      gate.map((value, i) => (value / (1 + Math.exp(-value))) * (up[i] ?? 0)),
      `${prefix}.down_proj`,
      choices,
    );
  }

  /** Quantizes the input where the matrix is FP8. */
  async #linear(x: Float64Array, name: string, choices: Choices): Promise<Float64Array> {
    const matrix = await this.#weights.matrix(name);
    return product(matrix, matrix.scales ? choices.quantize(x, `${name} input`) : x);
  }

  async embedding(token: number): Promise<Float64Array> {
    const { values, cols } = await this.#weights.matrix("model.embed_tokens");
    return Float64Array.from(values.subarray(token * cols, (token + 1) * cols));
  }

  async #norm(x: Float64Array, name: string, epsilon: number = this.config.rmsNormEps): Promise<Float64Array> {
    const gamma = await this.#weights.vector(name);
    const scale = 1 / Math.sqrt(dot(x, x) / x.length + epsilon);
    return x.map((value, i) => value * scale * (gamma[i] ?? 0));
  }

  /** Rotates adjacent pairs. */
  #rotate(x: Float64Array, position: number): Float64Array {
    const out = new Float64Array(x.length);
    for (let pair = 0; pair < x.length / 2; pair++) {
      const angle = position * (this.#frequencies[pair] ?? 0);
      const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
      const [a = 0, b = 0] = x.subarray(pair * 2, pair * 2 + 2);
      out[pair * 2] = a * cos - b * sin;
      out[pair * 2 + 1] = a * sin + b * cos;
    }
    return out;
  }
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] ?? 0) * (b[i] ?? 0);
  return sum;
}

function add(a: Float64Array, b: Float64Array): Float64Array {
  return a.map((value, i) => value + (b[i] ?? 0));
}

function addScaled(sum: Float64Array, x: Float64Array, factor: number): void {
  for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] ?? 0) + (x[i] ?? 0) * factor;
}
