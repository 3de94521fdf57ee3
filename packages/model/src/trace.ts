/** What a step computed on its way, kept for comparison with other implementations: hidden states and routing, layer by layer. */
import type { ModelConfig } from "@shoal/checkpoint";
import type { GpuContext } from "@shoal/gpu";
import type { Activations } from "./activations.ts";
import type { Recorder } from "./recorder.ts";
import type { Capture, RoutingCapture } from "./stage.ts";
import type { LayerWeights } from "./weights/layer.ts";

/** Of an expert chosen for a token: its number and its weight. */
const SLOT_BYTES = 8;

/** Of a step's shape: what its commands keep. Routing alone takes little room; hidden states as much as a step's for every layer. */
export type Captured = "nothing" | "routing" | "hidden" | "both";

export function captured(capture: Capture | undefined): Captured {
  const { hidden = false, routing = false } = capture ?? {};
  return hidden && routing ? "both" : hidden ? "hidden" : routing ? "routing" : "nothing";
}

export class Trace {
  readonly #gpu: GpuContext;
  readonly #config: ModelConfig;
  readonly #layers: readonly LayerWeights[];
  readonly #activations: Activations;
  /** Made when first asked for. */
  #hidden: GPUBuffer | undefined;
  #routing: GPUBuffer | undefined;
  /** Bytes of a token's routing, in the layer that has most. */
  readonly #rowBytes: number;

  constructor(gpu: GpuContext, config: ModelConfig, layers: readonly LayerWeights[], activations: Activations) {
    this.#gpu = gpu;
    this.#config = config;
    this.#layers = layers;
    this.#activations = activations;
    this.#rowBytes = Math.max(0, ...layers.map((layer) => this.#slots(layer) * SLOT_BYTES));
  }

  /** Adds copies after layer number `index` of the stage. */
  record(recorder: Recorder, index: number, what: Captured): void {
    const { residual, routing } = this.#activations;
    const { tokens } = recorder;
    if (what === "hidden" || what === "both") {
      const bytes = residual.buffer.size;
      this.#hidden ??= this.#gpu.buffer({ label: "trace of hidden states", size: this.#layers.length * bytes, kind: "activations" });
      recorder.copy(residual.buffer, this.#hidden, index * bytes, tokens * residual.stride * 4);
    }
    const layer = this.#layers[index];
    if ((what === "routing" || what === "both") && layer?.mlp.routed) {
      this.#routing ??= this.#gpu.buffer({ label: "trace of routing", size: this.#layers.length * routing.size, kind: "activations" });
      // One layer behind the other, so that a step's routing is one short reading.
      recorder.copy(routing, this.#routing, index * tokens * this.#rowBytes, tokens * this.#slots(layer) * SLOT_BYTES);
    }
  }

  /** By layer: [tokens, hiddenSize]. */
  async hidden(tokens: number): Promise<readonly Float32Array<ArrayBuffer>[]> {
    const { residual } = this.#activations;
    if (!this.#hidden) return [];
    const values = new Float32Array(await this.#gpu.read(this.#hidden));
    const perLayer = residual.buffer.size / 4;
    return this.#layers.map((_, index) => packRows(values.subarray(index * perLayer), tokens, this.#config.hiddenSize, residual.stride));
  }

  async routing(tokens: number): Promise<readonly RoutingCapture[]> {
    const { nActivatedExperts } = this.#config;
    if (!this.#routing) return [];
    const layerBytes = tokens * this.#rowBytes;
    const bytes = await this.#gpu.read(this.#routing, 0, this.#layers.length * layerBytes);
    return this.#layers.flatMap((layer, index) => {
      if (!layer.mlp.routed) return [];
      const slots = this.#slots(layer);
      const start = index * layerBytes;
      const ids = new Uint32Array(bytes, start, tokens * slots * 2);
      const floats = new Float32Array(bytes, start, tokens * slots * 2);
      const indices = new Int32Array(tokens * nActivatedExperts);
      const weights = new Float32Array(tokens * nActivatedExperts);
      for (let token = 0; token < tokens; token++)
        for (let slot = 0; slot < nActivatedExperts; slot++) {
          indices[token * nActivatedExperts + slot] = ids[(token * slots + slot) * 2] ?? 0;
          weights[token * nActivatedExperts + slot] = floats[(token * slots + slot) * 2 + 1] ?? 0;
        }
      return [{ layer: layer.index, indices, weights }];
    });
  }

  /** Experts of a token, shared ones that are in the routed group included. */
  #slots({ mlp }: LayerWeights): number {
    return mlp.routed ? this.#config.nActivatedExperts + mlp.routed.sharedSlots : 0;
  }
}

/** [rows, columns] out of rows `stride` apart. */
export function packRows(values: Float32Array<ArrayBuffer>, rows: number, columns: number, stride: number): Float32Array<ArrayBuffer> {
  const out = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) out.set(values.subarray(row * stride, row * stride + columns), row * columns);
  return out;
}
