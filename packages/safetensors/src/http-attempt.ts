/**
 * One HTTP attempt: fetch and body under an idle timeout and the caller's signal, and the sorting of failures into passing ones, which may
 * be tried again, and final ones. Knows nothing of ranges' meaning.
 */
import { SafetensorsError } from "./error.ts";

/** Statuses that say "later", not "no". */
const PASSING_STATUSES: ReadonlySet<number> = new Set([408, 425, 429, 500, 502, 503, 504]);

export interface PassingFailure {
  readonly reason: string;
  readonly timedOut: boolean;
  readonly status?: number;
  readonly retryAfterMs?: number;
}

class PassingError extends Error {
  readonly failure: PassingFailure;

  constructor(failure: PassingFailure) {
    super(failure.reason);
    this.failure = failure;
  }
}

export function watchedFetch(fetchFn: typeof fetch, timeoutMs: number, signal: AbortSignal | undefined) {
  const stop = new AbortController();
  let timedOut = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const touch = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      timedOut = true;
      stop.abort();
    }, timeoutMs);
  };
  const cancel = () => stop.abort();
  signal?.addEventListener("abort", cancel, { once: true });
  return {
    async fetch(url: string, headers: Readonly<Record<string, string>>): Promise<Response> {
      signal?.throwIfAborted();
      touch();
      const response = await fetchFn(url, { headers, signal: stop.signal });
      touch();
      if (!PASSING_STATUSES.has(response.status)) return response;
      const retryAfter = Number(response.headers.get("retry-after") ?? Number.NaN);
      const seconds = Number.isFinite(retryAfter) && retryAfter > 0 ? { retryAfterMs: retryAfter * 1000 } : {};
      throw new PassingError({ reason: `status ${response.status}`, timedOut: false, status: response.status, ...seconds });
    },

    async *body(response: Response): AsyncGenerator<Uint8Array<ArrayBuffer>, void, undefined> {
      if (response.body === null) return;
      const reader = response.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        touch();
        yield value;
      }
    },

    broken: (reason: string) => new PassingError({ reason, timedOut: false }),

    /** What went wrong, if it may pass; null where trying again is no use. */
    passing(error: unknown): PassingFailure | null {
      if (timedOut) return { reason: `no data for ${timeoutMs} ms`, timedOut };
      if (error instanceof PassingError) return error.failure;
      // What fetch itself throws is a lost connection, a name that does not resolve, a refused port.
      return error instanceof SafetensorsError ? null : { reason: describe(error), timedOut };
    },

    /** Closes the connection if the body was not read to its end. */
    end(): void {
      clearTimeout(timer);
      signal?.removeEventListener("abort", cancel);
      stop.abort();
    },
  };
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error && error.cause.message !== "" ? `${error.message}: ${error.cause.message}` : error.message;
}

/** 'bytes 0-7/100'; total is null for 'bytes 0-7/*'. Null where it is not of that form. */
export function parseContentRange(header: string): { readonly first: number; readonly last: number; readonly total: number | null } | null {
  const match = /^bytes (\d{1,16})-(\d{1,16})\/(?:(\d{1,16})|\*)$/.exec(header.trim());
  if (match === null) return null;
  const first = Number(match[1]);
  const last = Number(match[2]);
  const total = match[3] === undefined ? null : Number(match[3]);
  const valid = [first, last, total ?? 0].every(Number.isSafeInteger) && first <= last && (total === null || last < total);
  return valid ? { first, last, total } : null;
}

export function retryDelay(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer);
      reject(signal?.reason instanceof Error ? signal.reason : new DOMException("Aborted", "AbortError"));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", abort, { once: true });
    if (signal?.aborted === true) abort();
  });
}
