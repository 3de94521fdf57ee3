/**
 * Every buffer a device holds, by kind, so that what a model takes is known and printed rather than guessed.
 */

export type MemoryKind = "weights" | "kvCache" | "activations" | "tables" | "readback" | "upload" | "scratch";

export interface BufferRequest {
  readonly label: string;
  /** Bytes; rounded up to a multiple of 16, at least 16. */
  readonly size: number;
  readonly kind: MemoryKind;
  /** Beyond STORAGE | COPY_SRC | COPY_DST, which every buffer gets but those that the host maps: readback and upload. */
  readonly usage?: number;
}

export class MemoryLedger {
  readonly #bytes = new Map<MemoryKind, number>();

  add(kind: MemoryKind, bytes: number): void {
    this.#bytes.set(kind, (this.#bytes.get(kind) ?? 0) + bytes);
  }

  /** Bytes held now, by kind. */
  byKind(): Readonly<Partial<Record<MemoryKind, number>>> {
    return Object.fromEntries(this.#bytes);
  }

  total(): number {
    let sum = 0;
    for (const bytes of this.#bytes.values()) sum += bytes;
    return sum;
  }
}

/** Storage buffers are read in 16-byte vectors, and WebGPU has no empty bindings. */
export function alignedSize(bytes: number): number {
  return Math.max(16, Math.ceil(bytes / 16) * 16);
}
