/**
 * Where bytes come from. A `ByteSource` answers ranged reads, exactly as many bytes as asked or an error, and knows nothing of what the
 * bytes mean. This file holds the two that need no platform: a buffer and a Blob (a browser's File). `file.ts` and `http.ts` hold the others.
 */
import { readError } from "./error.ts";

export interface ByteSource {
  /** For messages: a path, an address, a label. */
  readonly name: string;
  readonly size: number;
  /**
   * Exactly `length` bytes from `offset` on, the caller's own.
   * @param into memory for them, at least as long: used where the source can, and free again when the promise settles. New memory costs more than a warm file's bytes.
   * @throws {SafetensorsError}
   */
  read(offset: number, length: number, signal?: AbortSignal, into?: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>>;
  close(): Promise<void>;
}

/** @throws {SafetensorsError} `out-of-range` where the range is not within the source. */
export function checkRange(source: { readonly name: string; readonly size: number }, offset: number, length: number): void {
  const safe = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0;
  if (safe && offset + length <= source.size) return;
  const actual = `was asked for ${length} bytes at ${offset}`;
  throw readError({ code: "out-of-range", file: source.name, actual, expected: `a range within its ${source.size} bytes` });
}

/** What a source that fills memory itself reads into. @throws {SafetensorsError} `out-of-range` where the memory given is too small. */
export function memoryFor(source: { readonly name: string }, length: number, into?: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  if (into === undefined) return new Uint8Array(length);
  if (into.byteLength >= length) return into.subarray(0, length);
  const actual = `was asked for ${length} bytes into memory of ${into.byteLength}`;
  throw readError({ code: "out-of-range", file: source.name, actual, expected: "memory for all of them" });
}

/** Throws `closed` on every use after `close`. */
export function checkOpen(source: { readonly name: string }, open: boolean): void {
  if (!open) throw readError({ code: "closed", file: source.name, actual: "is closed", expected: "an open source" });
}

export function bytesSource(bytes: Uint8Array, name = "buffer"): ByteSource {
  return blobLikeSource(name, bytes.byteLength, (begin, end) => Promise.resolve(new Uint8Array(bytes.subarray(begin, end))));
}

export function blobSource(blob: Blob, name = "name" in blob && typeof blob.name === "string" ? blob.name : "blob"): ByteSource {
  return blobLikeSource(name, blob.size, async (begin, end) => new Uint8Array(await blob.slice(begin, end).arrayBuffer()));
}

function blobLikeSource(name: string, size: number, slice: (begin: number, end: number) => Promise<Uint8Array<ArrayBuffer>>): ByteSource {
  let open = true;
  return Object.freeze({
    name,
    size,
    async read(offset: number, length: number, signal?: AbortSignal) {
      signal?.throwIfAborted();
      checkOpen({ name }, open);
      checkRange({ name, size }, offset, length);
      let bytes: Uint8Array<ArrayBuffer>;
      try {
        bytes = await slice(offset, offset + length);
      } catch (cause) {
        // A browser's File turns unreadable when the file behind it changes.
        throw readError({ code: "read-failed", file: name, actual: `failed at byte ${offset}`, expected: "a readable file", cause });
      }
      signal?.throwIfAborted();
      if (bytes.byteLength === length) return bytes;
      const actual = `gave ${bytes.byteLength} bytes at ${offset}`;
      throw readError({ code: "read-failed", file: name, actual, expected: String(length) });
    },
    close() {
      open = false;
      return Promise.resolve();
    },
  });
}
