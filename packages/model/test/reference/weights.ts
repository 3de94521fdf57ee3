/** Weights of a checkpoint on the CPU as they are stored: FP8 codes decoded (exact in f32) with their block scales apart, so that products in f64 round nothing. */
import type { CheckpointSource } from "@shoal/checkpoint";
import { e4m3ToNumber } from "@shoal/gpu";

const BLOCK = 128;

export interface ReferenceMatrix {
  readonly rows: number;
  readonly cols: number;
  /** [rows, cols] */
  readonly values: Float32Array;
  /** [ceil(rows / 128), ceil(cols / 128)] where the matrix is FP8. */
  readonly scales?: Float32Array;
}

const DECODED = Float32Array.from({ length: 256 }, (_, code) => e4m3ToNumber(code));

export class ReferenceWeights {
  readonly #checkpoint: CheckpointSource;
  readonly #matrices = new Map<string, Promise<ReferenceMatrix>>();

  constructor(checkpoint: CheckpointSource) {
    this.#checkpoint = checkpoint;
  }

  /** A matrix, read when first asked for and kept. */
  matrix(name: string): Promise<ReferenceMatrix> {
    const matrix = this.#matrices.get(name) ?? this.#read(`${name}.weight`);
    this.#matrices.set(name, matrix);
    return matrix;
  }

  /** A vector, such as a norm's. */
  async vector(name: string): Promise<Float32Array> {
    return (await this.#cachedVector(name)).values;
  }

  #cachedVector(name: string): Promise<ReferenceMatrix> {
    const matrix = this.#matrices.get(name) ?? this.#read(name);
    this.#matrices.set(name, matrix);
    return matrix;
  }

  async #read(name: string): Promise<ReferenceMatrix> {
    const { tensors } = this.#checkpoint;
    const info = tensors.tensors.get(name);
    if (!info) throw new RangeError(`The checkpoint has no '${name}'`);
    const bytes = new Uint8Array(await tensors.readTensor(name)).slice();
    const [rows = 1, cols = 1] = info.shape;
    if (info.dtype === "F8_E4M3") {
      const scales = (await this.#read(`${name}_scale_inv`)).values;
      return { rows, cols, values: Float32Array.from(bytes, (code) => DECODED[code] ?? 0), scales };
    }
    if (info.dtype === "F32") return { rows, cols, values: new Float32Array(bytes.buffer) };
    if (info.dtype !== "BF16") throw new RangeError(`'${name}' is ${info.dtype}`);
    const bits = Uint32Array.from(new Uint16Array(bytes.buffer), (code) => code << 16);
    return { rows, cols, values: new Float32Array(bits.buffer) };
  }
}

/** W x, for the rows `begin .. end`. */
export function product(matrix: ReferenceMatrix, x: Float64Array, begin = 0, end: number = matrix.rows): Float64Array {
  const { cols, values, scales } = matrix;
  const blocks = Math.ceil(cols / BLOCK);
  const y = new Float64Array(end - begin);
  for (let row = begin; row < end; row++) {
    let sum = 0;
    for (let block = 0; block < blocks; block++) {
      let part = 0;
      const last = Math.min(cols, (block + 1) * BLOCK);
      for (let col = block * BLOCK; col < last; col++) part += (values[row * cols + col] ?? 0) * (x[col] ?? 0);
      sum += part * (scales ? (scales[Math.floor(row / BLOCK) * blocks + block] ?? 0) : 1);
    }
    y[row - begin] = sum;
  }
  return y;
}

/** One element, dequantized. */
export function element({ cols, values, scales }: ReferenceMatrix, row: number, col: number): number {
  const scale = scales ? (scales[Math.floor(row / BLOCK) * Math.ceil(cols / BLOCK) + Math.floor(col / BLOCK)] ?? 0) : 1;
  return (values[row * cols + col] ?? 0) * scale;
}
