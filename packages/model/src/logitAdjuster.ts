/** What sequences ask of their logits, on the device. Nothing of it is there until somebody asks; then it is 8 bytes a sequence and token of the vocabulary, and as much as the logits. */
import type { GpuContext } from "@shoal/gpu";
import { TOKEN_IN_PROMPT, adjustsLogits, maskRowWords, penalizes } from "@shoal/kernels";
import { ModelError } from "./errors.ts";
import type { BatchEntry, SamplingParameters, TokenHistory } from "./stage.ts";

export interface AdjusterBuffers {
  /** [slots, vocab] u32 */
  readonly history: GPUBuffer;
  /** [slots, vocab] f32 */
  readonly bias: GPUBuffer;
  /** [outputs, maskRowWords(vocab)] u32 */
  readonly masks: GPUBuffer;
  /** As the logits. */
  readonly adjusted: GPUBuffer;
}

export interface AdjusterShape {
  readonly vocab: number;
  readonly maxSequences: number;
  readonly maxOutputs: number;
  /** Columns of a row of logits. */
  readonly logitsStride: number;
}

type Mask = Uint32Array<ArrayBuffer> | undefined;

export class LogitAdjuster {
  readonly #gpu: GpuContext;
  readonly #shape: AdjusterShape;
  #buffers: AdjusterBuffers | undefined;
  readonly #adjusts = new Set<number>();
  readonly #penalizes = new Set<number>();
  /** Rows of the mask buffer that mask. */
  readonly #masked = new Set<number>();

  constructor(gpu: GpuContext, shape: AdjusterShape) {
    this.#gpu = gpu;
    this.#shape = shape;
  }

  get buffers(): AdjusterBuffers {
    const { vocab, maxSequences, maxOutputs, logitsStride } = this.#shape;
    const buffer = (label: string, words: number): GPUBuffer => this.#gpu.buffer({ label, size: words * 4, kind: "tables" });
    return (this.#buffers ??= {
      history: buffer("token history", maxSequences * vocab),
      bias: buffer("logit bias", maxSequences * vocab),
      masks: buffer("token masks", maxOutputs * maskRowWords(vocab)),
      adjusted: buffer("adjusted logits", maxOutputs * logitsStride),
    });
  }

  /** @throws RangeError for ids that are none, and for a bias that is no number; nothing has changed then */
  set(slot: number, parameters: SamplingParameters, { promptIds, generatedIds }: TokenHistory): void {
    const { vocab } = this.#shape;
    const { logitBias = new Map<number, number>() } = parameters;
    for (const id of [...promptIds, ...generatedIds, ...logitBias.keys()])
      if (!Number.isInteger(id) || id < 0 || id >= vocab) throw new RangeError(`Cannot adjust token ${id}, expected 0 to ${vocab - 1}`);
    for (const [id, bias] of logitBias)
      if (!Number.isFinite(Math.fround(bias))) throw new RangeError(`Cannot adjust token ${id} by ${bias}, expected a number`);
    this.#adjusts.delete(slot);
    this.#penalizes.delete(slot);
    if (!adjustsLogits(parameters)) return;
    const history = new Uint32Array(vocab);
    for (const id of promptIds) history[id] = TOKEN_IN_PROMPT;
    for (const id of generatedIds) history[id] = (history[id] ?? 0) + 1;
    const bias = new Float32Array(vocab);
    for (const [id, value] of logitBias) bias[id] = value;
    const { buffers } = this;
    this.#gpu.write(buffers.history, slot * vocab * 4, history);
    this.#gpu.write(buffers.bias, slot * vocab * 4, bias);
    this.#adjusts.add(slot);
    if (penalizes(parameters)) this.#penalizes.add(slot);
  }

  /** Whether a token of this sequence must be known before the next one's logits are. */
  dependsOnHistory(slot: number): boolean {
    return this.#penalizes.has(slot);
  }

  /** Whether any row of a step, of these sequences, is adjusted. */
  needed(slots: readonly number[], masks: readonly Mask[]): boolean {
    return masks.some((mask) => mask !== undefined) || slots.some((slot) => this.#adjusts.has(slot));
  }

  /** Masks of the next step's rows. To be called before each step that adjusts. */
  mask(masks: readonly Mask[]): void {
    const { buffers } = this;
    const words = maskRowWords(this.#shape.vocab);
    for (const [row, mask] of masks.entries()) {
      if (mask) {
        const values = new Uint32Array(words);
        values[0] = 1;
        values.set(mask, 1);
        this.#gpu.write(buffers.masks, row * words * 4, values);
        this.#masked.add(row);
      } else if (this.#masked.delete(row)) this.#gpu.write(buffers.masks, row * words * 4, new Uint32Array(1));
    }
  }

  /** An entry's masks, one for each of its chosen rows. @throws ModelError named bad-batch */
  checkedMasks({ masks }: BatchEntry, rows: number): readonly Mask[] {
    if (!masks) return Array.from({ length: rows }, () => undefined);
    const refuse = (what: string): never => {
      throw new ModelError("bad-batch", `Cannot mask: ${what}`);
    };
    const { vocab } = this.#shape;
    const words = maskRowWords(vocab) - 1;
    if (masks.length !== rows) refuse(`an entry has ${masks.length} masks, expected ${rows}: one for each token that is chosen`);
    for (const mask of masks) {
      if (mask.length !== words) refuse(`a mask has ${mask.length} words, expected ${words}`);
      const last = vocab % 32 === 0 ? 0xffffffff : 2 ** (vocab % 32) - 1;
      const allows = mask.some((word, index) => (index === words - 1 ? (word & last) !== 0 : word !== 0));
      if (!allows) refuse("a mask allows no token");
    }
    return masks;
  }
}
