/** What the last RING_STEPS steps left for the host: some rows of words each, read back several steps at a time. */
import type { Command, GpuContext } from "@shoal/gpu";
import { RING_STEPS } from "./activations.ts";
import { ModelError } from "./errors.ts";

export class StepRing {
  /** [RING_STEPS, rows, words] u32 */
  readonly buffer: GPUBuffer;
  readonly rows: number;
  readonly #gpu: GpuContext;
  readonly #what: string;
  readonly #stepWords: number;
  readonly #rowWords: number;
  /** Rows that each of the last RING_STEPS steps left. */
  readonly #counts = new Map<number, number>();
  /** Readback buffers not in use; made as reads overlap, so at most a few. */
  readonly #staging: GPUBuffer[] = [];

  /** @param what names the rows in errors and labels */
  constructor(gpu: GpuContext, what: string, rows: number, rowWords: number) {
    this.#gpu = gpu;
    this.#what = what;
    this.rows = rows;
    this.#rowWords = rowWords;
    this.#stepWords = rows * rowWords;
    this.buffer = gpu.buffer({ label: what, size: RING_STEPS * this.#stepWords * 4, kind: "tables" });
    // Two reads overlap at most: the last batch's, and the one before it.
    for (let i = 0; i < 2; i++) this.#staging.push(this.#newStaging());
  }

  /** Notes that a step leaves so many rows. */
  note(step: number, count: number): void {
    this.#counts.set(step, count);
    this.#counts.delete(step - RING_STEPS);
  }

  /** Words of each step's rows. @throws ModelError named bad-batch for steps that were not noted, or too long ago. */
  async read(first: number, count: number): Promise<readonly Uint32Array<ArrayBuffer>[]> {
    const steps = Array.from({ length: count }, (_, index) => first + index);
    for (const step of steps)
      if (!this.#counts.has(step))
        throw new ModelError(
          "bad-batch",
          `Cannot read the ${this.#what} of step ${step}: it sampled none, or more than ${RING_STEPS} steps ago`,
        );
    const counts = steps.map((step) => this.#counts.get(step) ?? 0);
    const staging = this.#staging.pop() ?? this.#newStaging();
    try {
      this.#gpu.submit(this.#copies(staging, first, count));
      return await this.#gpu.mapped(staging, (range) => {
        const words = new Uint32Array(range);
        return steps.map((step, index) => {
          const start = (step % RING_STEPS) * this.#stepWords;
          return words.slice(start, start + (counts[index] ?? 0) * this.#rowWords);
        });
      });
    } finally {
      this.#staging.push(staging);
    }
  }

  /** Two where the steps go round the end. */
  #copies(staging: GPUBuffer, first: number, count: number): Command[] {
    const begin = first % RING_STEPS;
    const part = (from: number, steps: number): Command => {
      const [offset, size] = [from * this.#stepWords * 4, steps * this.#stepWords * 4];
      return { copy: { from: this.buffer, fromOffset: offset, to: staging, toOffset: offset, size } };
    };
    const beyond = begin + count - RING_STEPS;
    return beyond > 0 ? [part(begin, count - beyond), part(0, beyond)] : [part(begin, count)];
  }

  #newStaging(): GPUBuffer {
    return this.#gpu.buffer({ label: `${this.#what} read`, size: RING_STEPS * this.#stepWords * 4, kind: "readback" });
  }
}
