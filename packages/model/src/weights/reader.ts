/**
 * Streams tensors from a checkpoint to the GPU, whole rows at a time, in their stored formats. Several slices are on their way at once, across tensors, through memory
 * that is used again and again: new memory costs more than reading a warm file. Host memory: those slices, and what the driver stages, which is bounded by waiting
 * for the queue, one window behind.
 */
import { type BufferRange, type GpuContext, type UploadMemory, uploadMemory } from "@shoal/gpu";
import { CHUNK, FORMAT_BYTES, type WeightFormat, roundUp } from "@shoal/kernels";
import type { TensorInfo, TensorStore } from "@shoal/safetensors";
import { ModelError } from "../errors.ts";
import { toFloats } from "./floats.ts";
import { SlicePool } from "./slicePool.ts";

/** Bytes read at once. */
const SLICE_BYTES = 8 * 2 ** 20;
/** Slices being read or written. */
const SLICES = 8;
/** Bytes written between two marks in the queue: drivers keep written bytes in host memory until the queue has passed them. */
const WINDOW_BYTES = 64 * 2 ** 20;

/** Bindings begin at multiples of 256 bytes. */
export const VECTOR_ALIGNMENT = 64;

/** Vectors in one buffer. */
export interface StackedVectors {
  readonly buffer: GPUBuffer;
  /** Of each, in order, padded to a multiple of 16. */
  readonly ranges: readonly Exclude<BufferRange, GPUBuffer>[];
}

const FORMATS: Readonly<Record<string, WeightFormat>> = { F8_E4M3: "fp8", BF16: "bf16", F16: "f16", F32: "f32" };

/** The stored format of a tensor. @throws ModelError named bad-weights if there is none of that name, or of that type */
export function tensorFormat(store: TensorStore, name: string): WeightFormat {
  const info = store.tensors.get(name);
  if (!info) throw new ModelError("bad-weights", `Cannot load tensor '${name}': the checkpoint has none of that name`);
  const format = FORMATS[info.dtype];
  if (!format)
    throw new ModelError("bad-weights", `Cannot load tensor '${name}': its dtype is ${info.dtype}, expected F8_E4M3, BF16, F16 or F32`);
  return format;
}

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

/** Rows `first .. first + count` of a tensor, as stored. */
interface Slice {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly memory: UploadMemory;
  readonly first: number;
  readonly count: number;
  readonly rowBytes: number;
  readonly elementBytes: number;
}

export class WeightReader {
  readonly gpu: GpuContext;
  readonly store: TensorStore;
  readonly signal: AbortSignal | undefined;
  readonly #totalBytes: number;
  readonly #onProgress: ((progress: LoadProgress) => void) | undefined;
  readonly #pool: SlicePool<UploadMemory>;
  #loaded = 0;
  #unmarked = 0;
  /** The last mark in the queue. */
  #passed: Promise<void> = Promise.resolve();
  /** Rows packed for a wider stride; the queue copies them at once. */
  #packed = new Uint8Array();

  constructor({ gpu, store, totalBytes, onProgress, signal }: ReaderOptions) {
    this.gpu = gpu;
    this.store = store;
    this.signal = signal;
    this.#totalBytes = totalBytes;
    this.#onProgress = onProgress;
    this.#pool = new SlicePool(SLICES, () => uploadMemory(gpu, SLICE_BYTES));
  }

  /** Written to the GPU so far. */
  get loadedBytes(): number {
    return this.#loaded;
  }

  info(name: string): TensorInfo {
    const info = this.store.tensors.get(name);
    if (!info) throw new ModelError("bad-weights", `Cannot load tensor '${name}': the checkpoint has none of that name`);
    return info;
  }

  format(name: string): WeightFormat {
    return tensorFormat(this.store, name);
  }

  /**
   * Sends a 2-D tensor's rows to their targets; every slice is split over the targets that want some of it. Resolves when the last slice has begun: what fails
   * later makes a later call throw, at the latest `finish()`.
   */
  async rows(name: string, targets: readonly RowTarget[]): Promise<void> {
    const [rows = 0, cols = 0] = this.info(name).shape;
    const elementBytes = FORMAT_BYTES[this.format(name)];
    const rowBytes = cols * elementBytes;
    const rowsPerSlice = Math.max(1, Math.floor(SLICE_BYTES / rowBytes));
    for (let first = 0; first < rows; first += rowsPerSlice) {
      const count = Math.min(rowsPerSlice, rows - first);
      await this.#pool.lend(async (memory) => {
        const into = await memory.open();
        const length = count * rowBytes;
        // A single row may be larger than a slice: it gets memory of its own.
        const part = { offset: first * rowBytes, length, ...(length <= into.byteLength && { into }) };
        const bytes = await this.store.readPart(name, part, this.signal);
        for (const target of targets) this.#place({ bytes, memory, first, count, rowBytes, elementBytes }, target);
        memory.close();
        await this.#advance(length);
      });
    }
  }

  #place({ bytes, memory, first, count, rowBytes, elementBytes }: Slice, target: RowTarget): void {
    const begin = Math.max(first, target.rowStart);
    const end = Math.min(first + count, target.rowStart + target.rows);
    if (begin >= end) return;
    const { strideBytes, buffer } = target;
    const offset = target.offset + (begin - target.rowStart) * strideBytes;
    const wantedBytes = target.columns * elementBytes;
    if (wantedBytes === rowBytes && rowBytes === strideBytes) {
      memory.send(buffer, offset, bytes.subarray((begin - first) * rowBytes, (end - first) * rowBytes));
      return;
    }
    const size = (end - begin) * strideBytes;
    if (this.#packed.byteLength < size) this.#packed = new Uint8Array(size);
    const packed = this.#packed.subarray(0, size);
    if (wantedBytes < strideBytes) packed.fill(0);
    const skip = target.columnStart * elementBytes;
    for (let row = begin; row < end; row++) {
      const from = (row - first) * rowBytes + skip;
      packed.set(bytes.subarray(from, from + wantedBytes), (row - begin) * strideBytes);
    }
    memory.send(buffer, offset, packed);
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

  /** As `floats`, into `take`, while others are read. Resolves when it has begun, like `rows`. */
  async begin(name: string, take: (values: Float32Array<ArrayBuffer>) => void): Promise<void> {
    await this.#pool.begin(async () => take(await this.floats(name)));
  }

  /** A 1-D tensor as f32 on the GPU, padded with zeros to a multiple of 16. */
  async vector(name: string): Promise<GPUBuffer> {
    const values = await this.floats(name);
    const padded = new Float32Array(roundUp(values.length, CHUNK));
    padded.set(values);
    return this.gpu.upload(name, padded, "weights");
  }

  /** Several of them in one buffer, each from a multiple of VECTOR_ALIGNMENT elements on. */
  async vectors(names: readonly string[]): Promise<StackedVectors> {
    const parts: { readonly start: number; readonly values: Float32Array<ArrayBuffer> }[] = [];
    let end = 0;
    for (const name of names) {
      const values = await this.floats(name);
      const start = roundUp(end, VECTOR_ALIGNMENT);
      parts.push({ start, values });
      end = start + roundUp(values.length, CHUNK);
    }
    const all = new Float32Array(end);
    for (const { start, values } of parts) all.set(values, start);
    const buffer = this.gpu.upload(names.join(" + "), all, "weights");
    const ranges = parts.map(({ start, values }) => ({ buffer, offset: start * 4, size: roundUp(values.length, CHUNK) * 4 }));
    return { buffer, ranges };
  }

  async #advance(bytes: number): Promise<void> {
    this.signal?.throwIfAborted();
    this.#loaded += bytes;
    this.#unmarked += bytes;
    this.#onProgress?.({ loadedBytes: this.#loaded, totalBytes: this.#totalBytes });
    if (this.#unmarked < WINDOW_BYTES) return;
    this.#unmarked = 0;
    const before = this.#passed;
    this.#passed = this.#mark();
    // A failure is found by whoever waits for it, one window later.
    this.#passed.catch(() => {});
    await before;
  }

  async #mark(): Promise<void> {
    this.gpu.submit([]);
    await this.gpu.idle();
  }

  /** Waits for all that was begun. @throws what failed of it */
  async settle(): Promise<void> {
    await this.#pool.settle();
  }

  /** Waits until everything is on the GPU, and gives up the memory that it went through. @throws what failed since it was begun */
  async finish(): Promise<void> {
    await this.settle();
    await this.#passed;
    await this.#mark();
    for (const memory of this.#pool.pieces) memory.destroy();
  }

  /** Waits until nothing is being read any more, whether it failed or not. */
  async stop(): Promise<void> {
    await this.#pool.settle().catch(() => {});
    await this.#passed.catch(() => {});
    for (const memory of this.#pool.pieces) memory.destroy();
  }
}
