/**
 * Collects the commands of a step, choosing between the kernels for few tokens and those for many, and between the numeric modes.
 *
 * w8a32: activations are never quantized. w8a8: the input of every FP8 product is quantized per token and 128 channels, as DeepSeek-V3's `act_quant` does, except
 * kv_b_proj's, which absorbed attention uses dequantized (inference/model.py:481). There the last bit of a sum decides between two codes, so all its products are exact
 * (shaders/exact/), whatever they multiply.
 */
import type { ModelConfig } from "@shoal/checkpoint";
import type { BufferRange, Command, GpuContext } from "@shoal/gpu";
import {
  type ExpertSums,
  type HalvesLayout,
  type HalvesRows,
  type NormOperandsSpec,
  type WeightMatrix,
  actQuant,
  exactLinear,
  expertsCombine,
  halvesBytes,
  matmul,
  matmulLayout,
  matvec,
  normOperands,
  rmsNorm,
  sameLayout,
} from "@shoal/kernels";
import { type Activations, DECODE_TOKENS, type Matrix2D } from "./activations.ts";

export type NumericMode = "w8a32" | "w8a8";

export interface NormedLinear {
  readonly input: Matrix2D;
  readonly columns: number;
  readonly gamma: BufferRange;
  readonly epsilon: number;
  /** Where the normalized and the quantized input go when they must be written. */
  readonly normed: Matrix2D;
  readonly quantized: Matrix2D;
}

/** An RMSNorm that is written out. */
interface WrittenNorm {
  readonly x: Matrix2D;
  readonly columns: number;
  readonly gamma: BufferRange;
  readonly epsilon: number;
  readonly tokens: number;
  readonly label: string;
}

/** The forms in which it is wanted: known when all that reads it was recorded. */
interface NormForms {
  plain?: Matrix2D;
  halves?: HalvesRows;
}

/** A dispatch that writes a norm's forms, and does more. */
type MakeNorm = (spec: Omit<NormOperandsSpec, "add">) => Promise<Commands>;

/** What experts gave, to be added to the residual stream. */
interface PendingSums extends ExpertSums {
  readonly label: string;
}

/** Between two commands: a layer's rows go to its experts elsewhere, or what they gave must be there. */
export interface StepMark {
  readonly at: number;
  readonly what: "give" | "join";
  readonly layer: number;
}

export interface RecordedStep {
  readonly commands: readonly Command[];
  /** In their order; none where all experts are on the device. */
  readonly marks: readonly StepMark[];
}

type Commands = readonly Command[];
/** Commands, or what makes them when all is recorded. */
type Entry = { readonly commands: Commands | Promise<Commands> | (() => Promise<Commands>) } | Omit<StepMark, "at">;

export class Recorder {
  readonly gpu: GpuContext;
  readonly config: ModelConfig;
  readonly activations: Activations;
  readonly mode: NumericMode;
  /** Rows of this step. */
  readonly tokens: number;
  /** They attend to few positions (`isShortContext`). */
  readonly short: boolean;
  readonly #entries: Entry[] = [];
  #sums: PendingSums | undefined;

  constructor(gpu: GpuContext, config: ModelConfig, activations: Activations, mode: NumericMode, tokens: number, short = false) {
    this.gpu = gpu;
    this.config = config;
    this.activations = activations;
    this.mode = mode;
    this.tokens = tokens;
    this.short = short;
  }

  /** Few tokens: weights are read once for all, by matrix-vector kernels. */
  get few(): boolean {
    return this.tokens <= DECODE_TOKENS;
  }

  /** Products are summed exactly. */
  get exact(): boolean {
    return this.mode === "w8a8";
  }

  /** What is still being made keeps its place: nothing waits for a kernel to be compiled before it asks for the next, so that a device may compile all at once. */
  add(commands: Commands | Promise<Commands>): void {
    this.#settle();
    // Whoever finishes the recording hears of it.
    if (commands instanceof Promise) commands.catch(() => undefined);
    this.#entries.push({ commands });
  }

  /** Copies `bytes` from the start of a buffer, ending the pass. */
  copy(from: GPUBuffer, to: GPUBuffer, toOffset: number, bytes: number): void {
    this.add([{ copy: { from, fromOffset: 0, to, toOffset, size: bytes } }]);
  }

  /** The step leaves the device here. */
  mark(what: StepMark["what"], layer: number): void {
    this.#settle();
    this.#entries.push({ what, layer });
  }

  /** What was added, in its order. @throws the first error of what was being made */
  async recorded(): Promise<RecordedStep> {
    this.#settle();
    const commands: Command[] = [];
    const marks: StepMark[] = [];
    const made = async (entry: Entry) => {
      if ("what" in entry) return entry;
      return { commands: await (typeof entry.commands === "function" ? entry.commands() : entry.commands) };
    };
    const entries = await Promise.all(this.#entries.map(made));
    for (const entry of entries)
      if ("what" in entry) marks.push({ at: commands.length, ...entry });
      else for (const command of entry.commands) commands.push(command);
    return { commands, marks };
  }

  quantizes(format: WeightMatrix["format"]): boolean {
    return this.mode === "w8a8" && format === "fp8";
  }

  /** Adds what experts gave to the residual stream: in one dispatch with the norm that reads it next, if that is what comes next. */
  sum(sums: ExpertSums, label: string): void {
    this.#settle();
    this.#sums = { ...sums, label };
  }

  #settle(): void {
    const sums = this.#sums;
    if (!sums) return;
    this.#sums = undefined;
    const { buffer: y, stride: yStride } = this.activations.residual;
    const spec = { ...sums, y, yStride, hidden: this.config.hiddenSize, residual: true, tokens: this.tokens };
    this.add(expertsCombine(this.gpu, spec));
  }

  /** y = W x. */
  linear(
    matrix: WeightMatrix,
    x: Matrix2D,
    y: Matrix2D,
    options: {
      readonly label: string;
      readonly residual?: boolean;
      readonly outputStart?: number;
      readonly rows?: "tokens" | "outputs";
      /** x, already as `wants` says. */
      readonly written?: HalvesRows | undefined;
    },
  ): void {
    const { tokens } = this;
    const { label, residual = false, outputStart = 0, rows = "tokens", written } = options;
    const spec = { matrix, tokens, x: x.buffer, xStride: x.stride, y: from(y, outputStart), yStride: y.stride, residual, label };
    if (this.exact) this.add(exactLinear(this.gpu, spec));
    else if (this.few) this.add(matvec(this.gpu, spec));
    else this.add(matmul(this.gpu, { ...spec, halves: this.activations.halves, written, step: this.activations.step, count: rows }));
  }

  /** How a product with the matrix wants its input; undefined: as f32. */
  wants(matrix: WeightMatrix): HalvesLayout | undefined {
    const { gpu, tokens, activations } = this;
    return this.exact || this.few ? undefined : matmulLayout(gpu, { matrix, tokens, halves: activations.halves });
  }

  /** RMSNorm, written out. */
  norm(x: Matrix2D, y: Matrix2D, columns: number, gamma: BufferRange, epsilon: number, label: string, tokens = this.tokens): void {
    this.writeNorm({ x, columns, gamma, epsilon, tokens, label }, { plain: y });
  }

  /** The same, in forms that may still be added to while what reads them is recorded; by `make` where that does more besides. */
  writeNorm(norm: WrittenNorm, forms: NormForms, make?: MakeNorm): void {
    const { x, columns: cols, tokens, ...rest } = norm;
    const sums = this.#sums;
    const takes = !make && x.buffer === this.activations.residual.buffer && tokens === this.tokens;
    const add = takes ? sums : undefined;
    // By the kernel that can add, whether there is anything to add or not: it sums squares in an order of its own, and a row must not depend on where a stage begins.
    const plainNorm = !add && (this.few || this.exact || !takes);
    if (add) this.#sums = undefined;
    else this.#settle();
    this.#entries.push({
      commands: async () => {
        const { plain, halves } = forms;
        const spec = { ...rest, x: x.buffer, xStride: x.stride, cols, tokens };
        if (make) return make({ ...spec, y: plain, halves });
        if (plain && !halves && plainNorm) return rmsNorm(this.gpu, { ...spec, y: plain.buffer, yStride: plain.stride, exact: this.exact });
        return normOperands(this.gpu, { ...spec, add, y: plain, halves });
      },
    });
  }

  quantize(x: Matrix2D, columns: number, rows: number, label: string): void {
    const scaleFormat = this.config.quantization?.scaleFmt ?? "f32";
    this.add(actQuant(this.gpu, { x: x.buffer, stride: x.stride, cols: columns, rows, scaleFormat, label }));
  }

  /** Several products of one normalized input. For few tokens in w8a32 the norm is fused into each, if not `written` out. */
  normedInput(input: NormedLinear, label: string, written = false): NormedInput {
    return new NormedInput(this, input, label, written);
  }
}

export class NormedInput {
  readonly #recorder: Recorder;
  readonly #input: NormedLinear;
  readonly #label: string;
  readonly #written: boolean;
  /** What is written, if anything is so far. */
  #forms: NormForms | undefined;
  #quantized = false;

  constructor(recorder: Recorder, input: NormedLinear, label: string, written: boolean) {
    this.#recorder = recorder;
    this.#input = input;
    this.#label = label;
    this.#written = written;
  }

  /** Whether products fuse the norm. */
  get fuses(): boolean {
    return this.#recorder.few && !this.#recorder.exact && !this.#written && !this.#forms;
  }

  /** The input as a product with a matrix of this format wants it, written out. */
  materialize(format: WeightMatrix["format"]): Matrix2D {
    const { input, columns, gamma, epsilon, normed, quantized } = this.#input;
    const recorder = this.#recorder;
    if (!recorder.quantizes(format)) {
      this.#write().plain = normed;
      return normed;
    }
    if (this.#quantized) return quantized;
    this.#quantized = true;
    recorder.norm(input, quantized, columns, gamma, epsilon, `${this.#label} norm`);
    recorder.quantize(quantized, columns, recorder.tokens, `${this.#label} quantize`);
    return quantized;
  }

  /** The input as halves of this layout, written out; undefined where there is no room for them or they are wanted in another layout as well. */
  halves(layout: HalvesLayout): HalvesRows | undefined {
    const buffer = this.#recorder.activations.normedHalves;
    if (!buffer || buffer.size < halvesBytes(layout)) return undefined;
    const forms = this.#write();
    forms.halves ??= { buffer, layout };
    return sameLayout(forms.halves.layout, layout) ? forms.halves : undefined;
  }

  /** Lets a dispatch write it that reads it besides. Must come before all that reads it. */
  writtenBy(make: MakeNorm): void {
    if (this.#forms) throw new RangeError(`The ${this.#label} norm is written already`);
    this.#write(make);
  }

  #write(make?: MakeNorm): NormForms {
    if (this.#forms) return this.#forms;
    const { input: x, columns, gamma, epsilon } = this.#input;
    this.#forms = {};
    const norm = { x, columns, gamma, epsilon, tokens: this.#recorder.tokens, label: `${this.#label} norm` };
    this.#recorder.writeNorm(norm, this.#forms, make);
    return this.#forms;
  }

  linear(
    matrix: WeightMatrix,
    y: Matrix2D,
    label: string,
    options: { readonly outputStart?: number; readonly rows?: "tokens" | "outputs" } = {},
  ): void {
    const { gpu, tokens } = this.#recorder;
    const { outputStart = 0 } = options;
    if (!this.fuses) {
      const layout = this.#recorder.wants(matrix);
      const written = layout && this.halves(layout);
      const x = written ? this.#input.normed : this.materialize(matrix.format);
      this.#recorder.linear(matrix, x, y, { ...options, label, written });
      return;
    }
    const { input, gamma, epsilon } = this.#input;
    const spec = { matrix, tokens, x: input.buffer, xStride: input.stride, y: from(y, outputStart), yStride: y.stride, label };
    this.#recorder.add(matvec(gpu, { ...spec, norm: { gamma, epsilon } }));
  }
}

/** A matrix's buffer from a column on: a multiple of 64, as bindings start at multiples of 256 bytes. */
function from(matrix: Matrix2D, column: number): BufferRange {
  if (column === 0) return matrix.buffer;
  return { buffer: matrix.buffer, offset: column * 4, size: matrix.buffer.size - column * 4 };
}
