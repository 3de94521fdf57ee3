/** What a step computed on its way, kept for comparison with other implementations: hidden states and routing, layer by layer. */
import type { ModelConfig } from "@shoal/checkpoint";
import type { GpuContext } from "@shoal/gpu";
import type { Activations } from "./activations.ts";
import type { Recorder } from "./recorder.ts";
import type { RoutingCapture } from "./stage.ts";
import type { LayerWeights } from "./weights/layer.ts";

export class Trace {
  readonly #gpu: GpuContext;
  readonly #config: ModelConfig;
  readonly #layers: readonly LayerWeights[];
  readonly #activations: Activations;
  readonly #hidden: GPUBuffer;
  readonly #routing: GPUBuffer;

  constructor(gpu: GpuContext, config: ModelConfig, layers: readonly LayerWeights[], activations: Activations) {
    this.#gpu = gpu;
    this.#config = config;
    this.#layers = layers;
    this.#activations = activations;
    this.#hidden = gpu.buffer({
      label: "trace of hidden states",
      size: layers.length * activations.residual.buffer.size,
      kind: "activations",
    });
    this.#routing = gpu.buffer({ label: "trace of routing", size: layers.length * activations.routing.size, kind: "activations" });
  }

  /** Adds copies after layer number `index` of the stage. */
  record(recorder: Recorder, index: number): void {
    const { residual, routing } = this.#activations;
    recorder.copy(residual.buffer, this.#hidden, index * residual.buffer.size, residual.buffer.size);
    if (this.#layers[index]?.mlp.routed) recorder.copy(routing, this.#routing, index * routing.size, routing.size);
  }

  /** By layer: [tokens, hiddenSize]. */
  async hidden(tokens: number): Promise<readonly Float32Array<ArrayBuffer>[]> {
    const { residual } = this.#activations;
    const values = new Float32Array(await this.#gpu.read(this.#hidden));
    const perLayer = residual.buffer.size / 4;
    return this.#layers.map((_, index) => packRows(values.subarray(index * perLayer), tokens, this.#config.hiddenSize, residual.stride));
  }

  async routing(tokens: number): Promise<readonly RoutingCapture[]> {
    const { nActivatedExperts } = this.#config;
    const bytes = await this.#gpu.read(this.#routing);
    return this.#layers.flatMap(({ index: layer, mlp }, index) => {
      if (!mlp.routed) return [];
      const slots = nActivatedExperts + mlp.routed.sharedSlots;
      const start = index * this.#activations.routing.size;
      const ids = new Uint32Array(bytes, start, tokens * slots * 2);
      const floats = new Float32Array(bytes, start, tokens * slots * 2);
      const indices = new Int32Array(tokens * nActivatedExperts);
      const weights = new Float32Array(tokens * nActivatedExperts);
      for (let token = 0; token < tokens; token++)
        for (let slot = 0; slot < nActivatedExperts; slot++) {
          indices[token * nActivatedExperts + slot] = ids[(token * slots + slot) * 2] ?? 0;
          weights[token * nActivatedExperts + slot] = floats[(token * slots + slot) * 2 + 1] ?? 0;
        }
      return [{ layer, indices, weights }];
    });
  }
}

/** [rows, columns] out of rows `stride` apart. */
export function packRows(values: Float32Array<ArrayBuffer>, rows: number, columns: number, stride: number): Float32Array<ArrayBuffer> {
  const out = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) out.set(values.subarray(row * stride, row * stride + columns), row * columns);
  return out;
}
