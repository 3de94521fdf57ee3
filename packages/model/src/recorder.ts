/**
 * Collects the commands of a step, choosing between the kernels for few tokens and those for many, and between the numeric modes.
 *
 * w8a32: activations are never quantized. w8a8: the input of every FP8 product is quantized per token and 128 channels, as DeepSeek-V3's `act_quant` does, except
 * kv_b_proj's, which absorbed attention uses dequantized (inference/model.py:481). There the last bit of a sum decides between two codes, so all its products are exact
 * (shaders/exact/), whatever they multiply.
 */
import type { ModelConfig } from "@shoal/checkpoint";
import type { BufferRange, Command, GpuContext } from "@shoal/gpu";
import { type WeightMatrix, actQuant, exactLinear, matmul, matvec, rmsNorm } from "@shoal/kernels";
import { type Activations, DECODE_TOKENS, type Matrix2D } from "./activations.ts";

export type NumericMode = "w8a32" | "w8a8";

export interface NormedLinear {
  readonly input: Matrix2D;
  readonly columns: number;
  readonly gamma: GPUBuffer;
  readonly epsilon: number;
  /** Where the normalized and the quantized input go when they must be written. */
  readonly normed: Matrix2D;
  readonly quantized: Matrix2D;
}

/** What has been written of a normalized input so far in this step. */
interface NormedState {
  normed: boolean;
  quantized: boolean;
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
type Entry = { readonly commands: Commands | Promise<Commands> } | Omit<StepMark, "at">;

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
    this.#entries.push({ what, layer });
  }

  /** What was added, in its order. @throws the first error of what was being made */
  async recorded(): Promise<RecordedStep> {
    const commands: Command[] = [];
    const marks: StepMark[] = [];
    const entries = await Promise.all(this.#entries.map(async (entry) => ("what" in entry ? entry : { commands: await entry.commands })));
    for (const entry of entries)
      if ("what" in entry) marks.push({ at: commands.length, ...entry });
      else for (const command of entry.commands) commands.push(command);
    return { commands, marks };
  }

  quantizes(format: WeightMatrix["format"]): boolean {
    return this.mode === "w8a8" && format === "fp8";
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
      readonly count?: number;
    },
  ): void {
    const { label, residual = false, outputStart = 0, rows = "tokens", count = this.tokens } = options;
    const spec = { matrix, tokens: count, x: x.buffer, xStride: x.stride, y: from(y, outputStart), yStride: y.stride, residual, label };
    if (this.exact) this.add(exactLinear(this.gpu, spec));
    else if (count <= DECODE_TOKENS) this.add(matvec(this.gpu, spec));
    else this.add(matmul(this.gpu, { ...spec, halves: this.activations.halves, step: this.activations.step, count: rows }));
  }

  /** RMSNorm, written out. */
  norm(x: Matrix2D, y: Matrix2D, columns: number, gamma: GPUBuffer, epsilon: number, label: string, tokens = this.tokens): void {
    this.add(
      rmsNorm(this.gpu, {
        x: x.buffer,
        xStride: x.stride,
        xOffset: 0,
        gamma,
        epsilon,
        cols: columns,
        y: y.buffer,
        yStride: y.stride,
        yOffset: 0,
        tokens,
        exact: this.exact,
        label,
      }),
    );
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
  readonly #state: NormedState = { normed: false, quantized: false };

  constructor(recorder: Recorder, input: NormedLinear, label: string, written: boolean) {
    this.#recorder = recorder;
    this.#input = input;
    this.#label = label;
    this.#written = written;
  }

  /** Whether products fuse the norm. */
  get fuses(): boolean {
    return this.#recorder.few && !this.#recorder.exact && !this.#written;
  }

  /** The input as a product with a matrix of this format wants it, written out. */
  materialize(format: WeightMatrix["format"]): Matrix2D {
    const { input, columns, gamma, epsilon, normed, quantized } = this.#input;
    const recorder = this.#recorder;
    const wantsQuantized = recorder.quantizes(format);
    const key = wantsQuantized ? "quantized" : "normed";
    const target = wantsQuantized ? quantized : normed;
    if (this.#state[key]) return target;
    this.#state[key] = true;
    recorder.norm(input, target, columns, gamma, epsilon, `${this.#label} norm`);
    if (wantsQuantized) recorder.quantize(target, columns, recorder.tokens, `${this.#label} quantize`);
    return target;
  }

  linear(matrix: WeightMatrix, y: Matrix2D, label: string, outputStart = 0): void {
    const { gpu, tokens } = this.#recorder;
    if (!this.fuses) {
      this.#recorder.linear(matrix, this.materialize(matrix.format), y, { label, outputStart });
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
