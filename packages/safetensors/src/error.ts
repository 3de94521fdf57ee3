/**
 * The one error class of this package. `code` says what kind of failure it is and never changes between versions; `file` is the source's
 * name, `field` the part of the file or the tensor at fault, `actual` and `expected` what was found and what would have been right.
 */

export type SafetensorsErrorCode =
  // The header.
  | "too-short"
  | "header-length"
  | "header-start"
  | "header-utf8"
  | "header-json"
  | "duplicate-name"
  | "metadata"
  | "tensor-entry"
  | "dtype"
  | "shape"
  | "offsets"
  | "size-mismatch"
  | "overlap"
  | "gap"
  | "misaligned"
  | "truncated"
  | "trailing-bytes"
  // Reading.
  | "unknown-tensor"
  | "out-of-range"
  | "not-found"
  | "read-failed"
  | "closed"
  // HTTP.
  | "http-status"
  | "range-unsupported"
  | "content-range"
  | "changed"
  | "timeout"
  // Writing.
  | "write-entry"
  | "write-data"
  | "write-failed"
  // Checkpoints of several files.
  | "index"
  | "shard-name"
  | "missing-shard"
  | "missing-tensor";

export interface SafetensorsErrorDetails {
  readonly code: SafetensorsErrorCode;
  readonly file: string;
  readonly field?: string | undefined;
  readonly actual: string;
  readonly expected: string;
  readonly cause?: unknown;
}

export class SafetensorsError extends Error {
  override readonly name = "SafetensorsError";
  readonly code: SafetensorsErrorCode;
  readonly file: string;
  readonly field: string | undefined;
  readonly actual: string;
  readonly expected: string;

  constructor(action: "read" | "write", details: SafetensorsErrorDetails) {
    const what = details.field === undefined ? "" : `${details.field} `;
    super(
      `Cannot ${action} '${details.file}': ${what}${details.actual}, expected ${details.expected}`,
      details.cause === undefined ? undefined : { cause: details.cause },
    );
    this.code = details.code;
    this.file = details.file;
    this.field = details.field;
    this.actual = details.actual;
    this.expected = details.expected;
  }
}

/** Shorthand for the reading side. */
export function readError(details: SafetensorsErrorDetails): SafetensorsError {
  return new SafetensorsError("read", details);
}

/** A value from a file as it may stand in a message: quoted, one line, bounded. */
export function quote(value: unknown): string {
  const text = typeof value === "string" ? `'${value}'` : (JSON.stringify(value) ?? String(value));
  return text.length > 120 ? `${text.slice(0, 117)}...` : text;
}
