/**
 * Brings a model's files into storage and proves them by their digests. A file that is shorter than it should be is continued where it ended, after a lost
 * connection as after a closed page; one whose digest is wrong is fetched again. Stopping is the signal's business: a later call goes on from there.
 */
import { sha256 } from "@noble/hashes/sha2.js";
import { WebError } from "./errors.ts";
import { type ModelFile, type ModelManifest, manifestBytes } from "./manifest.ts";
import type { AppendFile, ModelStorage } from "./storage.ts";

export interface DownloadProgress {
  /** In storage, of all files. */
  readonly bytes: number;
  readonly totalBytes: number;
  /** Came over the network during this call. */
  readonly fetchedBytes: number;
}

export interface DownloadOptions {
  readonly base: URL;
  readonly manifest: ModelManifest;
  readonly storage: ModelStorage;
  readonly onProgress?: ((progress: DownloadProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly fetch?: typeof globalThis.fetch;
  /** Before each further try of a connection that failed. */
  readonly retryDelaysMs?: readonly number[];
}

/** Larger models are not hashed again on every visit: reading them takes longer than a person waits. */
export const MAX_REHASHED_BYTES = 2 ** 30;
const RETRY_DELAYS_MS = [500, 1500, 4000];

/** All files, complete. @throws WebError named `DownloadError`, or the signal's reason */
export async function downloadModel(options: DownloadOptions): Promise<readonly File[]> {
  const { manifest, storage, onProgress, signal } = options;
  const totalBytes = manifestBytes(manifest);
  const rehash = totalBytes <= MAX_REHASHED_BYTES;
  let bytes = 0;
  let fetchedBytes = 0;
  const report = (change: number, fetched: number): void => {
    bytes += change;
    fetchedBytes += fetched;
    onProgress?.({ bytes, totalBytes, fetchedBytes });
  };
  const files: File[] = [];
  for (const [name, expected] of manifest) {
    signal?.throwIfAborted();
    const known = await storage.read(name);
    if (known?.size === expected.bytes && (!rehash || (await digestOf(known)) === expected.sha256)) {
      files.push(known);
      report(expected.bytes, 0);
      continue;
    }
    await completeFile(name, expected, options, report);
    const file = await storage.read(name);
    if (file?.size !== expected.bytes)
      throw new WebError("DownloadError", `Cannot keep '${name}': it has ${file?.size ?? 0} bytes, expected ${expected.bytes}`);
    files.push(file);
  }
  return files;
}

/** The files if all are there in full length, without looking into them; else null. */
export async function storedFiles(manifest: ModelManifest, storage: ModelStorage): Promise<readonly File[] | null> {
  const files: File[] = [];
  for (const [name, { bytes }] of manifest) {
    const file = await storage.read(name);
    if (file?.size !== bytes) return null;
    files.push(file);
  }
  return files;
}

/** Bytes that are still to be fetched, as sizes tell. */
export async function missingBytes(manifest: ModelManifest, storage: ModelStorage): Promise<number> {
  let missing = 0;
  for (const [name, { bytes }] of manifest) missing += Math.max(0, bytes - ((await storage.read(name))?.size ?? 0));
  return missing;
}

type Report = (change: number, fetched: number) => void;
type Digest = ReturnType<typeof sha256.create>;

async function completeFile(name: string, expected: ModelFile, options: DownloadOptions, report: Report): Promise<void> {
  const { storage } = options;
  const before = await storage.read(name);
  let digest = sha256.create();
  // A file of full length that is here has the wrong digest.
  const usable = before !== null && before.size < expected.bytes ? before : null;
  if (usable) await hashInto(digest, usable);
  const file = await storage.open(name);
  try {
    if (usable) report(file.size, 0);
    else file.clear();
    for (let attempt = 1; ; attempt++) {
      digest = await fetchRest(name, expected, file, digest, options, report);
      if (hex(digest.digest()) === expected.sha256) return;
      report(-file.size, 0);
      file.clear();
      digest = sha256.create();
      if (attempt === 2)
        throw new WebError("DownloadError", `Cannot use '${name}': its SHA-256 is wrong, fetched twice, expected ${expected.sha256}`);
    }
  } finally {
    file.close();
  }
}

/** Appends until the file has its length. The digest of all of it, which is a new one where the server could only start over. */
async function fetchRest(
  name: string,
  expected: ModelFile,
  file: AppendFile,
  digest: Digest,
  options: DownloadOptions,
  report: Report,
): Promise<Digest> {
  const { retryDelaysMs = RETRY_DELAYS_MS, signal } = options;
  let failures = 0;
  while (file.size < expected.bytes) {
    const start = file.size;
    try {
      const { body, restarts } = await openRest(name, start, options);
      if (restarts) {
        report(-start, 0);
        file.clear();
        digest = sha256.create();
      }
      for await (const chunk of chunks(body)) {
        signal?.throwIfAborted();
        if (file.size + chunk.byteLength > expected.bytes)
          throw new WebError("DownloadError", `Cannot use '${name}': the server sends more than its ${expected.bytes} bytes`);
        file.append(chunk);
        digest.update(chunk);
        report(chunk.byteLength, chunk.byteLength);
      }
      if (file.size < expected.bytes) throw new TypeError("the connection ended early");
    } catch (error) {
      signal?.throwIfAborted();
      // fetch tells of a broken connection by a TypeError, and of nothing else.
      if (!(error instanceof TypeError)) throw error;
      if (file.size > start) failures = 0;
      const delay = retryDelaysMs[failures++];
      if (delay === undefined)
        throw new WebError("DownloadError", `Cannot download '${name}': ${error.message}, at byte ${file.size} of ${expected.bytes}`, {
          cause: error,
        });
      await pause(delay, signal);
    }
  }
  return digest;
}

async function openRest(
  name: string,
  start: number,
  { base, signal, fetch = globalThis.fetch }: DownloadOptions,
): Promise<{ readonly body: ReadableStream<Uint8Array<ArrayBuffer>>; readonly restarts: boolean }> {
  const url = new URL(encodeURIComponent(name), base);
  url.search = base.search;
  const response = await fetch(url, {
    cache: "no-store",
    ...(start > 0 && { headers: { range: `bytes=${start}-` } }),
    ...(signal && { signal }),
  });
  if (response.status >= 500) throw new TypeError(`the server answered ${response.status}`);
  if (!response.ok || response.body === null)
    throw new WebError("DownloadError", `Cannot download '${name}': the server answered ${response.status}, expected 200 or 206`);
  if (response.status === 206 && !response.headers.get("content-range")?.startsWith(`bytes ${start}-`))
    throw new WebError("DownloadError", `Cannot continue '${name}': the server sent another range than from byte ${start}`);
  return { body: response.body, restarts: start > 0 && response.status !== 206 };
}

async function hashInto(digest: Digest, file: Blob): Promise<void> {
  for await (const chunk of chunks(file.stream())) digest.update(chunk);
}

async function digestOf(file: Blob): Promise<string> {
  const digest = sha256.create();
  await hashInto(digest, file);
  return hex(digest.digest());
}

/** Not every browser can iterate over a stream. */
async function* chunks(stream: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      clearTimeout(timer);
      reject(signal?.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
