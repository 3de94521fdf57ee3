/**
 * A checkpoint's files, read by chunks from wherever they can be had: a store of this machine's own first, then sources in turn. A chunk is used when its SHA-256 is the manifest's,
 * and kept in the store: what was read once is not fetched again, also after a restart.
 */
import type { CheckpointFiles } from "@shoal/checkpoint";
import type { ByteSource } from "@shoal/safetensors";
import { SwarmError } from "../errors.ts";
import { type Manifest, sha256Hex } from "./manifest.ts";

/** Where a chunk may be had. */
export interface ChunkSource {
  /** For messages, and for telling who sent a bad one. */
  readonly name: string;
  /** The bytes of a chunk, unchecked; undefined where it is not there. */
  read(file: string, index: number, offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer> | undefined>;
}

/** Chunks that were checked once. What comes back is checked again: disks and other programs are not trusted either. */
export interface ChunkStore {
  get(file: string, index: number): Promise<Uint8Array<ArrayBuffer> | undefined>;
  put(file: string, index: number, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
}

export interface ChunkedFilesOptions {
  readonly manifest: Manifest;
  readonly store?: ChunkStore;
  /** Asked for every chunk: peers come and go. */
  readonly sources: () => readonly ChunkSource[];
  /** Somebody sent bytes that are not the chunk's. */
  readonly onBadChunk?: (source: string, file: string, index: number) => void;
  readonly onBytes?: (bytes: number) => void;
  /** Most bytes of checked chunks that stay in memory, the last used ones, until `forget`; none by default. Where tensors are small each chunk is wanted many times. */
  readonly keptBytes?: number;
}

export class ChunkedFiles implements CheckpointFiles {
  readonly location: string;
  readonly #options: ChunkedFilesOptions;
  /** Chunks on their way, so that two readers of one chunk fetch it once. */
  readonly #underway = new Map<string, Promise<Uint8Array<ArrayBuffer>>>();
  /** The last used at the end. */
  readonly #kept = new Map<string, Uint8Array<ArrayBuffer>>();
  #keptBytes = 0;

  constructor(options: ChunkedFilesOptions) {
    this.#options = options;
    this.location = options.manifest.name;
  }

  async open(name: string): Promise<ByteSource | null> {
    const file = this.#options.manifest.files[name];
    if (!file) return null;
    const { bytes: size } = file;
    return {
      name,
      size,
      read: async (offset, length, signal, into) => {
        signal?.throwIfAborted();
        if (!(offset >= 0 && length >= 0 && offset + length <= size))
          throw new SwarmError(
            "malformed",
            `Cannot read ${length} bytes at ${offset} of '${name}', expected a range within its ${size} bytes`,
          );
        const memory = into?.subarray(0, length) ?? new Uint8Array(length);
        await this.#fill(name, offset, memory, signal);
        return memory;
      },
      close: () => Promise.resolve(),
    };
  }

  async read(name: string, maxBytes: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer> | null> {
    const source = await this.open(name);
    if (!source) return null;
    if (source.size > maxBytes)
      throw new SwarmError("malformed", `Cannot read '${name}': it has ${source.size} bytes, expected at most ${maxBytes}`);
    return source.read(0, source.size, signal);
  }

  list(): Promise<readonly string[]> {
    return Promise.resolve(Object.keys(this.#options.manifest.files));
  }

  async #fill(name: string, offset: number, memory: Uint8Array, signal?: AbortSignal): Promise<void> {
    const { chunkBytes } = this.#options.manifest;
    for (let at = 0; at < memory.byteLength;) {
      const index = Math.floor((offset + at) / chunkBytes);
      const begin = offset + at - index * chunkBytes;
      const chunk = await this.chunk(name, index, signal);
      const part = chunk.subarray(begin, begin + memory.byteLength - at);
      memory.set(part, at);
      at += part.byteLength;
    }
  }

  /** @throws SwarmError bad-chunk where nobody has it */
  chunk(name: string, index: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    const key = `${name}#${index}`;
    const kept = this.#kept.get(key);
    if (kept) {
      this.#keep(key, kept);
      return Promise.resolve(kept);
    }
    const known = this.#underway.get(key);
    if (known) return known;
    const fetching = this.#fetch(name, index, signal)
      .then((bytes) => {
        this.#keep(key, bytes);
        return bytes;
      })
      .finally(() => this.#underway.delete(key));
    this.#underway.set(key, fetching);
    return fetching;
  }

  /** Gives up the chunks that stay in memory. */
  forget(): void {
    this.#kept.clear();
    this.#keptBytes = 0;
  }

  #keep(key: string, bytes: Uint8Array<ArrayBuffer>): void {
    if (!this.#kept.delete(key)) this.#keptBytes += bytes.byteLength;
    this.#kept.set(key, bytes);
    for (const [oldest, { byteLength }] of this.#kept) {
      if (this.#keptBytes <= (this.#options.keptBytes ?? 0)) return;
      this.#kept.delete(oldest);
      this.#keptBytes -= byteLength;
    }
  }

  async #fetch(name: string, index: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    const { manifest, store, sources, onBadChunk, onBytes } = this.#options;
    const file = manifest.files[name];
    const digest = file?.chunks[index];
    if (!file || digest === undefined) throw new SwarmError("bad-chunk", `Cannot read chunk ${index} of '${name}': there is none`);
    const offset = index * manifest.chunkBytes;
    const length = Math.min(manifest.chunkBytes, file.bytes - offset);
    const good = async (bytes: Uint8Array<ArrayBuffer> | undefined): Promise<boolean> =>
      bytes?.byteLength === length && (await sha256Hex(bytes)) === digest;
    const stored = await store?.get(name, index);
    if (stored && (await good(stored))) return stored;
    const problems: string[] = [];
    for (const source of sources()) {
      try {
        const bytes = await source.read(name, index, offset, length, signal);
        if (!bytes) continue;
        if (!(await good(bytes))) {
          onBadChunk?.(source.name, name, index);
          problems.push(`${source.name} has other bytes`);
          continue;
        }
        onBytes?.(length);
        await store?.put(name, index, bytes);
        return bytes;
      } catch (error) {
        signal?.throwIfAborted();
        problems.push(`${source.name}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
    const tried = problems.length > 0 ? problems.join("; ") : "nobody has it";
    throw new SwarmError("bad-chunk", `Cannot read chunk ${index} of '${name}': ${tried}`);
  }
}

/** A checkpoint's own files, on disk or behind an address. */
export function filesSource(files: CheckpointFiles): ChunkSource & { close(): Promise<void> } {
  const open = new Map<string, Promise<ByteSource | null>>();
  return {
    name: files.location,
    async read(file, _index, offset, length, signal) {
      const opening = open.get(file) ?? files.open(file, signal);
      open.set(file, opening);
      const source = await opening;
      if (!source || source.size < offset + length) return undefined;
      return source.read(offset, length, signal);
    },
    async close() {
      const sources = await Promise.all(open.values());
      open.clear();
      await Promise.all(sources.flatMap((source) => (source ? [source.close()] : [])));
    },
  };
}
