/**
 * Brings a model's files into storage and proves them by their digests. A file that is shorter than it should be is continued where it ended, after a lost
 * connection as after a closed page; one whose digest is wrong is fetched again. Stopping is the signal's business: a later call goes on from there.
 */
import { Digest, digestOf, streamChunks } from "./digest.ts";
import { WebError } from "./errors.ts";
import { type ModelFile, type ModelManifest, manifestBytes } from "./manifest.ts";
import { Patience } from "./patience.ts";
import type { DownloadProgress } from "./protocol.ts";
import { fileUrl } from "./sources.ts";
import type { AppendFile, ModelStorage } from "./storage.ts";

export interface DownloadOptions {
  readonly base: URL;
  readonly manifest: ModelManifest;
  readonly storage: ModelStorage;
  readonly onProgress?: ((progress: Omit<DownloadProgress, "elsewhere">) => void) | undefined;
  /** The SHA-256 of a file of which nobody had said it, so that it can be held to that from now on. */
  readonly onDigest?: ((name: string, sha256: string) => Promise<void>) | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly fetch?: typeof globalThis.fetch;
  /** Before each further try of a connection that failed. */
  readonly retryDelaysMs?: readonly number[];
  /** A connection on which nothing comes for so long counts as broken. */
  readonly silenceMs?: number;
}

/** Larger models are not hashed again on every visit: reading them takes longer than a person waits. */
export const MAX_REHASHED_BYTES = 2 ** 30;
const RETRY_DELAYS_MS = [500, 1500, 4000];
const SILENCE_MS = 60_000;

/** All files, complete. @throws WebError named `DownloadError`, or the signal's reason */
export async function downloadModel(options: DownloadOptions): Promise<readonly File[]> {
  const { manifest, storage, onProgress, onDigest, signal } = options;
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
    if (known?.size === expected.bytes) {
      const digest = rehash || expected.sha256 === null ? await digestOf(known, expected) : undefined;
      if (digest?.proves(expected) !== false) {
        if (digest && expected.sha256 === null) await onDigest?.(name, digest.sha256);
        files.push(known);
        report(expected.bytes, 0);
        continue;
      }
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

async function completeFile(name: string, expected: ModelFile, options: DownloadOptions, report: Report): Promise<void> {
  const { storage } = options;
  const before = await storage.read(name);
  // A file of full length that is here has the wrong digest.
  const usable = before !== null && before.size < expected.bytes ? before : null;
  let digest = usable ? await digestOf(usable, expected) : new Digest(expected);
  const file = await storage.open(name);
  try {
    if (usable) report(file.size, 0);
    else file.clear();
    for (let attempt = 1; ; attempt++) {
      digest = await fetchRest(name, expected, file, digest, options, report);
      if (digest.proves(expected)) {
        if (expected.sha256 === null) await options.onDigest?.(name, digest.sha256);
        return;
      }
      report(-file.size, 0);
      file.clear();
      digest = new Digest(expected);
      if (attempt === 2) {
        const promised = expected.sha256 === null ? `SHA-1 ${expected.gitSha1}, as git counts it` : expected.sha256;
        throw new WebError("DownloadError", `Cannot use '${name}': its SHA-256 is wrong, fetched twice, expected ${promised}`);
      }
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
  const { retryDelaysMs = RETRY_DELAYS_MS, silenceMs = SILENCE_MS, signal } = options;
  let failures = 0;
  while (file.size < expected.bytes) {
    const start = file.size;
    const patience = new Patience(silenceMs, signal);
    try {
      const { body, restarts } = await openRest(name, start, { ...options, signal: patience.signal });
      if (restarts) {
        report(-start, 0);
        file.clear();
        digest = new Digest(expected);
      }
      for await (const chunk of streamChunks(body)) {
        signal?.throwIfAborted();
        patience.heard();
        if (file.size + chunk.byteLength > expected.bytes)
          throw new WebError("DownloadError", `Cannot use '${name}': the server sends more than its ${expected.bytes} bytes`);
        file.append(chunk);
        digest.update(chunk);
        report(chunk.byteLength, chunk.byteLength);
      }
      if (file.size < expected.bytes) throw new TypeError("the connection ended early");
    } catch (thrown) {
      signal?.throwIfAborted();
      const error = patience.reasonFor(thrown);
      // fetch tells of a broken connection by a TypeError, and of nothing else.
      if (!(error instanceof TypeError)) throw error;
      if (file.size > start) failures = 0;
      const delay = retryDelaysMs[failures++];
      if (delay === undefined)
        throw new WebError("DownloadError", `Cannot download '${name}': ${error.message}, at byte ${file.size} of ${expected.bytes}`, {
          cause: error,
        });
      await pause(delay, signal);
    } finally {
      patience.end();
    }
  }
  return digest;
}

async function openRest(
  name: string,
  start: number,
  { base, signal, fetch = globalThis.fetch }: DownloadOptions,
): Promise<{ readonly body: ReadableStream<Uint8Array<ArrayBuffer>>; readonly restarts: boolean }> {
  const ask = (headers: Record<string, string>): Promise<Response> =>
    fetch(fileUrl(name, base), { cache: "no-store", headers, ...(signal && { signal }) });
  let response = await ask(start > 0 ? { range: `bytes=${start}-` } : {});
  if (start > 0 && (response.status === 416 || (response.status === 206 && !continues(response, start)))) {
    // A server that cannot go on from there can begin again.
    await response.body?.cancel().catch(() => {});
    response = await ask({});
  }
  if (response.status >= 500 || response.status === 429) throw new TypeError(`the server answered ${response.status}`);
  if (!response.ok || response.body === null)
    throw new WebError("DownloadError", `Cannot download '${name}': the server answered ${response.status}, expected 200 or 206`);
  return { body: response.body, restarts: start > 0 && response.status !== 206 };
}

/** Servers of other origins need not let a page read the header; the digest tells in the end. */
function continues(response: Response, start: number): boolean {
  return response.headers.get("content-range")?.startsWith(`bytes ${start}-`) !== false;
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
