/**
 * Streams tensors from a checkpoint to the GPU, whole rows at a time, in their stored formats. Host memory: one slice being written, one being read ahead,
 * and what the driver stages, which is bounded by waiting for the queue.
 */
import type { GpuContext } from "@shoal/gpu";
import { CHUNK, FORMAT_BYTES, type WeightFormat, roundUp } from "@shoal/kernels";
import type { TensorInfo, TensorStore } from "@shoal/safetensors";
import { ModelError } from "../errors.ts";

/** Bytes read at once. */
const SLICE_BYTES = 8 * 2 ** 20;
/** Bytes written between waits for the queue: drivers keep written bytes in host memory until then. */
const FLUSH_BYTES = 128 * 2 ** 20;

const FORMATS: Readonly<Record<string, WeightFormat>> = { F8_E4M3: "fp8", BF16: "bf16", F16: "f16", F32: "f32" };

export interface LoadProgress {
  readonly loadedBytes: number;
  readonly totalBytes: number;
}

export interface ReaderOptions {
  readonly gpu: GpuContext;
  readonly store: TensorStore;
  readonly totalBytes: number;
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A place for rows: row r of the tensor's columns `columnStart .. columnStart + columns` goes to `offset + r * strideBytes`. */
export interface RowTarget {
  readonly buffer: GPUBuffer;
  readonly offset: number;
  readonly strideBytes: number;
  readonly rowStart: number;
  readonly rows: number;
  readonly columnStart: number;
  readonly columns: number;
}

export class WeightReader {
  readonly gpu: GpuContext;
  readonly store: TensorStore;
  readonly signal: AbortSignal | undefined;
  readonly #totalBytes: number;
  readonly #onProgress: ((progress: LoadProgress) => void) | undefined;
  #loaded = 0;
  #unflushed = 0;

  constructor({ gpu, store, totalBytes, onProgress, signal }: ReaderOptions) {
    this.gpu = gpu;
    this.store = store;
    this.signal = signal;
    this.#totalBytes = totalBytes;
    this.#onProgress = onProgress;
  }

  info(name: string): TensorInfo {
    const info = this.store.tensors.get(name);
    if (!info) throw new ModelError("bad-weights", `Cannot load tensor '${name}': the checkpoint has none of that name`);
    return info;
  }

  format(name: string): WeightFormat {
    const { dtype } = this.info(name);
    const format = FORMATS[dtype];
    if (!format)
      throw new ModelError("bad-weights", `Cannot load tensor '${name}': its dtype is ${dtype}, expected F8_E4M3, BF16, F16 or F32`);
    return format;
  }

  /** Sends a 2-D tensor's rows to their targets. Every slice is split over the targets that want some of it. */
  async rows(name: string, targets: readonly RowTarget[]): Promise<void> {
    const [rows = 0, cols = 0] = this.info(name).shape;
    const elementBytes = FORMAT_BYTES[this.format(name)];
    const rowBytes = cols * elementBytes;
    const rowsPerSlice = Math.max(1, Math.floor(SLICE_BYTES / rowBytes));
    let first = 0;
    for await (const slice of this.store.readSlices(name, { sliceBytes: rowsPerSlice * rowBytes }, this.signal)) {
      const count = Math.min(rowsPerSlice, rows - first);
      for (const target of targets) this.#place(slice, first, count, rowBytes, elementBytes, target);
      first += count;
      await this.#advance(slice.byteLength);
    }
  }

  #place(slice: Uint8Array<ArrayBuffer>, first: number, count: number, rowBytes: number, elementBytes: number, target: RowTarget): void {
    const begin = Math.max(first, target.rowStart);
    const end = Math.min(first + count, target.rowStart + target.rows);
    if (begin >= end) return;
    const { strideBytes, buffer } = target;
    const offset = target.offset + (begin - target.rowStart) * strideBytes;
    const wantedBytes = target.columns * elementBytes;
    if (wantedBytes === rowBytes && rowBytes === strideBytes) {
      this.gpu.write(buffer, offset, slice.subarray((begin - first) * rowBytes, (end - first) * rowBytes));
      return;
    }
    const packed = new Uint8Array((end - begin) * strideBytes);
    const skip = target.columnStart * elementBytes;
    for (let row = begin; row < end; row++) {
      const from = (row - first) * rowBytes + skip;
      packed.set(slice.subarray(from, from + wantedBytes), (row - begin) * strideBytes);
    }
    this.gpu.write(buffer, offset, packed);
  }

  /** A small tensor (norms, biases, scales) as f32. */
  async floats(name: string): Promise<Float32Array<ArrayBuffer>> {
    const bytes = await this.store.readTensor(name, this.signal);
    const values = toFloats(bytes, this.format(name));
    await this.#advance(bytes.byteLength);
    const bad = values.findIndex((value) => !Number.isFinite(value));
    if (bad >= 0)
      throw new ModelError("bad-weights", `Cannot load tensor '${name}': element ${bad} is ${values[bad]}, expected a finite number`);
    return values;
  }

  /** A 1-D tensor as f32 on the GPU, padded with zeros to a multiple of 16. */
  async vector(name: string): Promise<GPUBuffer> {
    const values = await this.floats(name);
    const padded = new Float32Array(roundUp(values.length, CHUNK));
    padded.set(values);
    return this.gpu.upload(name, padded, "weights");
  }

  async #advance(bytes: number): Promise<void> {
    this.signal?.throwIfAborted();
    this.#loaded += bytes;
    this.#unflushed += bytes;
    this.#onProgress?.({ loadedBytes: this.#loaded, totalBytes: this.#totalBytes });
    if (this.#unflushed < FLUSH_BYTES) return;
    await this.flush();
  }

  async flush(): Promise<void> {
    this.#unflushed = 0;
    this.gpu.submit([]);
    await this.gpu.idle();
  }
}

function toFloats(bytes: Uint8Array<ArrayBuffer>, format: WeightFormat): Float32Array<ArrayBuffer> {
  const { buffer, byteOffset, byteLength } = bytes;
  const view = new DataView(buffer, byteOffset, byteLength);
  const count = byteLength / FORMAT_BYTES[format];
  if (format === "f32") return Float32Array.from({ length: count }, (_, i) => view.getFloat32(i * 4, true));
  if (format === "bf16") {
    const out = new Float32Array(count);
    const bits = new Uint32Array(out.buffer);
    for (let i = 0; i < count; i++) bits[i] = view.getUint16(i * 2, true) << 16;
    return out;
  }
  if (format === "f16") return Float32Array.from({ length: count }, (_, i) => f16ToNumber(view.getUint16(i * 2, true)));
  throw new ModelError("unsupported", "Cannot read FP8 values as a vector");
}

function f16ToNumber(code: number): number {
  const exponent = (code >> 10) & 31;
  const mantissa = code & 0x3ff;
  const sign = code & 0x8000 ? -1 : 1;
  if (exponent === 31) return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (exponent === 0 ? mantissa * 2 ** -24 : (1 + mantissa / 1024) * 2 ** (exponent - 15));
}
