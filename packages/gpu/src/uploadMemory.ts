/**
 * Host memory that is filled, sent to buffers, and filled again.
 *
 * Dawn makes and maps new memory for every large `writeBuffer`, which on a GPU takes longer than reading the bytes from a warm file (H100: 0.6 GB/s). There the memory is a mapped buffer of the
 * queue's: files are read straight into what the device copies from. Elsewhere `writeBuffer` is as fast as the rest, and mapping is not (wgpu), or not for a page to do (browsers copy to another
 * process either way).
 */
import type { GpuContext } from "./context.ts";
import type { BufferCopy } from "./program.ts";

export interface UploadMemory {
  /** The memory, once what was sent from it the last time has left it. */
  open(): Promise<Uint8Array<ArrayBuffer>>;
  /**
   * Sends bytes to a buffer at a byte offset, where `GpuContext.write` would have written them. They may lie in the memory, and then stay there until `close`, or elsewhere.
   */
  send(buffer: GPUBuffer, offset: number, bytes: Uint8Array<ArrayBuffer>): void;
  /** Ends a filling: what was sent is on its way, the memory is not to be touched until it is opened again. */
  close(): void;
  /** Gives it up, whatever it is doing. */
  destroy(): void;
}

export function uploadMemory(gpu: GpuContext, bytes: number): UploadMemory {
  return gpu.dialect.engine === "dawn" ? new MappedMemory(gpu, bytes) : new WrittenMemory(gpu, bytes);
}

class WrittenMemory implements UploadMemory {
  readonly #gpu: GpuContext;
  readonly #bytes: number;
  #memory: Uint8Array<ArrayBuffer> | undefined;

  constructor(gpu: GpuContext, bytes: number) {
    this.#gpu = gpu;
    this.#bytes = bytes;
  }

  async open(): Promise<Uint8Array<ArrayBuffer>> {
    this.#memory ??= new Uint8Array(this.#bytes);
    return this.#memory;
  }

  send(buffer: GPUBuffer, offset: number, bytes: Uint8Array<ArrayBuffer>): void {
    this.#gpu.write(buffer, offset, bytes);
  }

  close(): void {}

  destroy(): void {
    this.#memory = undefined;
  }
}

class MappedMemory implements UploadMemory {
  readonly #gpu: GpuContext;
  readonly #bytes: number;
  #staging: GPUBuffer | undefined;
  #memory: Uint8Array<ArrayBuffer> = new Uint8Array();
  #copies: BufferCopy[] = [];

  constructor(gpu: GpuContext, bytes: number) {
    this.#gpu = gpu;
    this.#bytes = bytes;
  }

  async open(): Promise<Uint8Array<ArrayBuffer>> {
    if (this.#staging) await this.#gpu.mapForWriting(this.#staging);
    else this.#staging = this.#gpu.buffer({ label: "upload", size: this.#bytes, kind: "upload" });
    this.#memory = new Uint8Array(this.#staging.getMappedRange());
    return this.#memory;
  }

  send(buffer: GPUBuffer, offset: number, bytes: Uint8Array<ArrayBuffer>): void {
    const aligned = [offset, bytes.byteOffset, bytes.byteLength].every((value) => value % 4 === 0);
    if (!aligned || !this.#staging || bytes.buffer !== this.#memory.buffer) return this.#gpu.write(buffer, offset, bytes);
    this.#copies.push({ from: this.#staging, fromOffset: bytes.byteOffset, to: buffer, toOffset: offset, size: bytes.byteLength });
  }

  close(): void {
    const copies = this.#copies;
    this.#copies = [];
    this.#staging?.unmap();
    if (copies.length > 0) this.#gpu.submit(copies.map((copy) => ({ copy })));
  }

  destroy(): void {
    if (this.#staging) this.#gpu.destroyBuffer(this.#staging);
    this.#staging = undefined;
    this.#copies = [];
  }
}
