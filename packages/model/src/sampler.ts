/** Where sampled tokens go: the last one of each sequence, and a ring of the last steps' for reading back in batches. */
import type { GpuContext } from "@shoal/gpu";
import {
  GREEDY,
  MIN_TEMPERATURE,
  SAMPLING_PARAM_WORDS,
  type SamplingParams,
  encodeSamplingParams,
  sampleScratchBytes,
} from "@shoal/kernels";
import { RING_STEPS } from "./activations.ts";
import { ModelError } from "./errors.ts";

export interface SamplerBuffers {
  readonly params: GPUBuffer;
  readonly lastTokens: GPUBuffer;
  readonly ring: GPUBuffer;
  readonly ringRows: number;
  readonly scratch: GPUBuffer;
}

export class Sampler implements SamplerBuffers {
  readonly params: GPUBuffer;
  readonly lastTokens: GPUBuffer;
  readonly ring: GPUBuffer;
  readonly ringRows: number;
  readonly scratch: GPUBuffer;
  readonly #gpu: GpuContext;
  readonly #greedy: boolean[];
  /** Tokens sampled by each of the last RING_STEPS steps. */
  readonly #counts = new Map<number, number>();
  /** Readback buffers not in use; made as reads overlap, so at most a few. */
  readonly #staging: GPUBuffer[] = [];

  constructor(gpu: GpuContext, vocab: number, maxSequences: number, maxOutputs: number) {
    this.#gpu = gpu;
    this.ringRows = maxOutputs;
    this.params = gpu.buffer({ label: "sampling parameters", size: maxSequences * SAMPLING_PARAM_WORDS * 4, kind: "tables" });
    this.lastTokens = gpu.buffer({ label: "last tokens", size: maxSequences * 4, kind: "tables" });
    this.ring = gpu.buffer({ label: "sampled tokens", size: RING_STEPS * maxOutputs * 4, kind: "tables" });
    this.scratch = gpu.buffer({ label: "sampling scratch", size: sampleScratchBytes(vocab, maxOutputs), kind: "activations" });
    this.#greedy = Array.from({ length: maxSequences }, () => true);
    for (let slot = 0; slot < maxSequences; slot++) this.set(slot, GREEDY);
    // Two reads overlap at most: the last batch's, and the one before it.
    for (let i = 0; i < 2; i++) this.#staging.push(this.#newStaging());
  }

  /** @throws RangeError for parameters that mean nothing. */
  set(slot: number, parameters: SamplingParams): void {
    this.#gpu.write(this.params, slot * SAMPLING_PARAM_WORDS * 4, encodeSamplingParams(parameters));
    this.#greedy[slot] = parameters.temperature < MIN_TEMPERATURE;
  }

  /** The kernels needed for these sequences. */
  choose(slots: readonly number[]): "greedy" | "sample" {
    return slots.every((slot) => this.#greedy[slot] ?? true) ? "greedy" : "sample";
  }

  /** Notes that a step samples so many tokens. */
  note(step: number, count: number): void {
    this.#counts.set(step, count);
    this.#counts.delete(step - RING_STEPS);
  }

  /** @throws ModelError named bad-batch for steps that did not sample, or too long ago. */
  async read(first: number, count: number): Promise<readonly (readonly number[])[]> {
    const steps = Array.from({ length: count }, (_, index) => first + index);
    for (const step of steps)
      if (!this.#counts.has(step))
        throw new ModelError("bad-batch", `Cannot read the tokens of step ${step}: it sampled none, or more than ${RING_STEPS} steps ago`);
    const counts = steps.map((step) => this.#counts.get(step) ?? 0);
    const staging = this.#staging.pop() ?? this.#newStaging();
    try {
      this.#gpu.submit([{ copy: { from: this.ring, fromOffset: 0, to: staging, toOffset: 0, size: RING_STEPS * this.ringRows * 4 } }]);
      await this.#gpu.map(staging);
      const words = new Uint32Array(staging.getMappedRange());
      const tokens = steps.map((step, index) => {
        const start = (step % RING_STEPS) * this.ringRows;
        return Array.from(words.subarray(start, start + (counts[index] ?? 0)));
      });
      staging.unmap();
      return tokens;
    } finally {
      this.#staging.push(staging);
    }
  }

  #newStaging(): GPUBuffer {
    return this.#gpu.buffer({ label: "sampled tokens read", size: RING_STEPS * this.ringRows * 4, kind: "readback" });
  }
}
