/** Where sampled tokens go: the last one of each sequence, and a ring of the last steps' for reading back in batches. */
import type { GpuContext } from "@shoal/gpu";
import {
  FIRST_POSITION_WORD,
  GREEDY,
  MIN_TEMPERATURE,
  SAMPLING_PARAM_WORDS,
  encodeSamplingParams,
  roundUp,
  sampleScratchBytes,
} from "@shoal/kernels";
import type { SamplingParameters } from "./stage.ts";
import { StepRing } from "./stepRing.ts";

/** What bindings may begin at, everywhere. */
const BINDING_WORDS = 64;

export interface SamplerBuffers {
  readonly params: GPUBuffer;
  /** [depth, slotStride] u32 */
  readonly lastTokens: GPUBuffer;
  readonly slotStride: number;
  readonly ring: StepRing;
  readonly scratch: GPUBuffer;
}

export class Sampler implements SamplerBuffers {
  readonly params: GPUBuffer;
  readonly lastTokens: GPUBuffer;
  readonly slotStride: number;
  readonly ring: StepRing;
  readonly scratch: GPUBuffer;
  readonly #gpu: GpuContext;
  readonly #greedy: boolean[];
  /** Of each slot: what positions in batches are counted from. */
  readonly #firstPositions: Uint32Array<ArrayBuffer>;

  /** @param depth tokens that are kept of each sequence */
  constructor(gpu: GpuContext, vocab: number, maxSequences: number, maxOutputs: number, depth = 1) {
    this.#gpu = gpu;
    this.params = gpu.buffer({ label: "sampling parameters", size: maxSequences * SAMPLING_PARAM_WORDS * 4, kind: "tables" });
    this.slotStride = roundUp(maxSequences, BINDING_WORDS);
    this.lastTokens = gpu.buffer({ label: "last tokens", size: depth * this.slotStride * 4, kind: "tables" });
    this.ring = new StepRing(gpu, "sampled tokens", maxOutputs, 1);
    this.scratch = gpu.buffer({ label: "sampling scratch", size: sampleScratchBytes(vocab, maxOutputs), kind: "activations" });
    this.#firstPositions = new Uint32Array(maxSequences);
    this.#greedy = Array.from({ length: maxSequences }, () => true);
    for (let slot = 0; slot < maxSequences; slot++) this.set(slot, GREEDY);
  }

  /** @throws RangeError for parameters that mean nothing. */
  set(slot: number, parameters: SamplingParameters): void {
    this.#gpu.write(this.params, slot * SAMPLING_PARAM_WORDS * 4, encodeSamplingParams(parameters, this.#firstPositions[slot]));
    this.#greedy[slot] = parameters.temperature < MIN_TEMPERATURE;
  }

  /** Positions of a sequence are counted from there in batches: 0 at first. */
  countFrom(slot: number, firstPosition: number): void {
    if (this.#firstPositions[slot] === firstPosition) return;
    this.#firstPositions[slot] = firstPosition;
    this.#gpu.write(this.params, (slot * SAMPLING_PARAM_WORDS + FIRST_POSITION_WORD) * 4, Uint32Array.of(firstPosition));
  }

  /** The kernels needed for these sequences. */
  choose(slots: readonly number[]): "greedy" | "sample" {
    return slots.every((slot) => this.#greedy[slot] ?? true) ? "greedy" : "sample";
  }

  /** @throws ModelError named bad-batch for steps that did not sample, or too long ago. */
  async read(first: number, count: number): Promise<readonly (readonly number[])[]> {
    return (await this.ring.read(first, count)).map((tokens) => Array.from(tokens));
  }
}
