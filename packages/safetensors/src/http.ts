/**
 * A file behind http(s), read by Range requests. Every answer is checked before its body is read: status 206, a Content-Range that is what
 * was asked for, the same total and the same ETag as at opening. A body that breaks off is taken up again where it broke, a bounded number of
 * times; an answer of the wrong kind is cancelled, never drained, for it may be the whole file.
 */
import { readError, type SafetensorsErrorCode } from "./error.ts";
import { parseContentRange, retryDelay, watchedFetch } from "./http-attempt.ts";
import { checkOpen, checkRange, memoryFor, type ByteSource } from "./source.ts";

/** Attempts after the first one, for each read. */
export const DEFAULT_RETRIES = 5;
/** Milliseconds without a single byte before an attempt counts as dead. */
export const DEFAULT_TIMEOUT_MS = 30_000;
/** Milliseconds before the first retry; doubles with each, up to `MAX_BACKOFF_MS`, which also bounds what Retry-After may ask for. */
export const DEFAULT_BACKOFF_MS = 250;
export const MAX_BACKOFF_MS = 30_000;

/** What an answer to the first request should say. */
const PROBED = "'bytes 0-0/SIZE' as Content-Range";

export interface HttpOptions {
  readonly fetch?: typeof fetch;
  /** Sent with every request: authorization, say. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly retries?: number;
  readonly timeoutMs?: number;
  readonly backoffMs?: number;
}

/** What identifies one version of the file. */
interface Version {
  readonly size: number;
  readonly etag: string | null;
  readonly lastModified: string | null;
}

/**
 * Asks for the first byte, to learn the size and whether ranges are served.
 * @throws {SafetensorsError} `not-found`, `http-status`, `range-unsupported`, `content-range`, `timeout`, `read-failed`
 */
export async function httpSource(url: string | URL, options: HttpOptions = {}, signal?: AbortSignal): Promise<ByteSource> {
  const name = printable(url);
  const reader = new HttpReader(String(url), name, options);
  const version = await reader.probe(signal);
  const { size } = version;
  let open = true;
  return Object.freeze({
    name,
    size,
    read(offset: number, length: number, signal?: AbortSignal, into?: Uint8Array<ArrayBuffer>) {
      try {
        signal?.throwIfAborted();
        checkOpen({ name }, open);
        checkRange({ name, size }, offset, length);
        return reader.read(offset, memoryFor({ name }, length, into), version, signal);
      } catch (error) {
        return Promise.reject(error);
      }
    },
    close() {
      open = false;
      return Promise.resolve();
    },
  });
}

/**
 * A small file whole, by a plain GET: servers that compress or ignore ranges serve those too.
 * @throws {SafetensorsError} as `httpSource()`, and `out-of-range` where it has more than `maxBytes`
 */
export async function httpBytes(
  url: string | URL,
  maxBytes: number,
  options: HttpOptions = {},
  signal?: AbortSignal,
): Promise<Uint8Array<ArrayBuffer>> {
  return await new HttpReader(String(url), printable(url), options).readAll(maxBytes, signal);
}

/** Without credentials and query, which may hold a signature. */
function printable(url: string | URL): string {
  const parsed = new URL(url);
  return `${parsed.origin}${parsed.pathname}`;
}

class HttpReader {
  readonly #url: string;
  readonly #name: string;
  readonly #options: HttpOptions;

  constructor(url: string, name: string, options: HttpOptions) {
    this.#url = url;
    this.#name = name;
    this.#options = options;
  }

  async probe(signal: AbortSignal | undefined): Promise<Version> {
    return await this.#attempts(signal, async (attempt) => {
      const response = await attempt.fetch(this.#url, this.#headers(0, 1, null));
      // An empty file has no first byte: 416 with 'bytes */0' says so.
      const empty = response.status === 416 && response.headers.get("content-range")?.trim() === "bytes */0";
      const version = (size: number): Version => ({
        size,
        etag: response.headers.get("etag"),
        lastModified: response.headers.get("last-modified"),
      });
      if (empty) return version(0);
      this.#checkStatus(response);
      // Some servers take the end 0 for none (sirv, which Vite's preview is made of): then the answer is the whole file, whose body is cancelled.
      const { first, total } = this.#parsedRange(response, PROBED);
      if (first !== 0) throw this.#fail("content-range", `answers from byte ${first} on`, PROBED);
      if (total !== null) return version(total);
      throw this.#fail("content-range", "does not say the file's size", PROBED);
    });
  }

  async readAll(maxBytes: number, signal: AbortSignal | undefined): Promise<Uint8Array<ArrayBuffer>> {
    return await this.#attempts(signal, async (attempt) => {
      const response = await attempt.fetch(this.#url, { ...this.#options.headers });
      if (response.status !== 200 || isWebPage(response)) this.#checkStatus(response);
      const parts: Uint8Array<ArrayBuffer>[] = [];
      let size = 0;
      for await (const part of attempt.body(response)) {
        size += part.byteLength;
        if (size > maxBytes) throw this.#fail("out-of-range", `has more than ${maxBytes} bytes`, "a small file");
        parts.push(part);
      }
      return new Uint8Array(await new Blob(parts).arrayBuffer());
    });
  }

  async read(
    offset: number,
    bytes: Uint8Array<ArrayBuffer>,
    version: Version,
    signal: AbortSignal | undefined,
  ): Promise<Uint8Array<ArrayBuffer>> {
    const length = bytes.byteLength;
    let done = 0;
    if (length > 0) {
      await this.#attempts(signal, async (attempt) => {
        const response = await attempt.fetch(this.#url, this.#headers(offset + done, length - done, version));
        this.#checkVersion(response, version);
        this.#checkStatus(response);
        const { total } = this.#contentRange(response, offset + done, length - done);
        if (total !== null && total !== version.size) throw this.#changed(`now has ${total} bytes`, `${version.size} bytes as before`);
        for await (const chunk of attempt.body(response)) {
          if (chunk.byteLength > length - done) {
            throw this.#fail("content-range", "sends more bytes than it announced", `${length} bytes`);
          }
          bytes.set(chunk, done);
          done += chunk.byteLength;
        }
        if (done < length) throw attempt.broken(`the answer ended at byte ${offset + done}, before ${offset + length}`);
      });
    }
    return bytes;
  }

  /** Runs `body` until it succeeds, fails for good, or has failed too often. Every attempt ends with its connection closed or drained. */
  async #attempts<T>(signal: AbortSignal | undefined, body: (attempt: ReturnType<typeof watchedFetch>) => Promise<T>): Promise<T> {
    const { retries = DEFAULT_RETRIES, timeoutMs = DEFAULT_TIMEOUT_MS, backoffMs = DEFAULT_BACKOFF_MS } = this.#options;
    for (let tried = 0; ; tried++) {
      const attempt = watchedFetch(this.#options.fetch ?? fetch, timeoutMs, signal);
      try {
        return await body(attempt);
      } catch (cause) {
        signal?.throwIfAborted();
        const passing = attempt.passing(cause);
        if (passing === null) throw cause;
        if (tried >= retries) {
          const expected = `an answer within ${retries + 1} attempts`;
          const code = passing.timedOut ? "timeout" : passing.status === undefined ? "read-failed" : "http-status";
          throw readError({ code, file: this.#name, actual: `failed: ${passing.reason}`, expected, cause });
        }
        const wait = Math.max(Math.min(backoffMs * 2 ** tried, MAX_BACKOFF_MS), Math.min(passing.retryAfterMs ?? 0, MAX_BACKOFF_MS));
        await retryDelay(wait, signal);
      } finally {
        attempt.end();
      }
    }
  }

  /** Fetch itself adds `Accept-Encoding: identity` to requests with a Range: a compressed answer has other bytes at other offsets. */
  #headers(offset: number, length: number, version: Version | null): Record<string, string> {
    const headers: Record<string, string> = {
      ...this.#options.headers,
      range: `bytes=${offset}-${offset + length - 1}`,
    };
    // A weak ETag does not promise equal bytes, so If-Range may not carry it. Across origins a browser would ask the server's
    // permission for the header first, which few grant; the comparison in `#checkVersion` is what we rely on everywhere.
    const validator = version?.etag?.startsWith('"') === true ? version.etag : null;
    if (validator !== null && !isCrossOrigin(this.#url)) headers["if-range"] = validator;
    return headers;
  }

  #checkVersion(response: Response, version: Version): void {
    // 416: what was within the file when it was opened no longer is.
    if (response.status === 416) throw this.#changed("answers 416", `${version.size} bytes as before`);
    if (!response.ok) return;
    const etag = response.headers.get("etag");
    if (version.etag !== null && etag !== null && etag !== version.etag) {
      throw this.#changed(`now has ETag ${etag}`, `${version.etag} as before`);
    }
    const modified = response.headers.get("last-modified");
    if (version.etag === null && version.lastModified !== null && modified !== null && modified !== version.lastModified) {
      throw this.#changed(`was modified ${modified}`, `${version.lastModified} as before`);
    }
  }

  #checkStatus(response: Response): void {
    const { status } = response;
    if (status === 206) return;
    // Development servers answer an unknown address with the page itself.
    if (status === 200 && isWebPage(response)) throw this.#fail("not-found", "answers with a web page", "a file at this address");
    if (status === 200) {
      throw this.#fail(
        "range-unsupported",
        "ignores Range: answers 200 with the whole file",
        "status 206 (serve it from a server with ranges)",
      );
    }
    if (status === 404 || status === 410) throw this.#fail("not-found", `answers ${status}`, "a file at this address");
    throw this.#fail("http-status", `answers ${status}`, status === 401 || status === 403 ? "permission to read it" : "status 206");
  }

  #contentRange(response: Response, offset: number, length: number): { readonly total: number | null } {
    const expected = `'bytes ${offset}-${offset + length - 1}/SIZE' as Content-Range`;
    const range = this.#parsedRange(response, expected);
    if (range.first !== offset || range.last !== offset + length - 1) {
      throw this.#fail("content-range", `answers with 'bytes ${range.first}-${range.last}/${range.total ?? "*"}'`, expected);
    }
    return range;
  }

  #parsedRange(response: Response, expected: string) {
    const header = response.headers.get("content-range");
    if (header === null) {
      throw this.#fail("content-range", "sends no readable Content-Range", `${expected} (across origins the server must expose it)`);
    }
    const range = parseContentRange(header);
    if (range === null) throw this.#fail("content-range", `answers with '${header.slice(0, 80)}'`, expected);
    return range;
  }

  #changed(actual: string, expected: string) {
    return this.#fail("changed", actual, `${expected} (it changed while it was read: open it again)`);
  }

  #fail(code: SafetensorsErrorCode, actual: string, expected: string) {
    return readError({ code, file: this.#name, actual, expected });
  }
}

function isWebPage(response: Response): boolean {
  return response.headers.get("content-type")?.startsWith("text/html") === true;
}

function isCrossOrigin(url: string): boolean {
  // Undefined in Node and Deno, where nobody asks permission for headers.
  const here = (globalThis as { location?: { origin?: string } }).location?.origin;
  return here !== undefined && here.startsWith("http") && here !== new URL(url).origin;
}
