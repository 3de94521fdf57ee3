/**
 * The one error class of this package: a tokenizer file, a chat or a token id is not what it must be. `field` is the place in the file or
 * the argument, `actual` what was found (shortened), `expected` what would have been right.
 */
export class TokenizerError extends Error {
  override readonly name = "TokenizerError";
  readonly field: string;
  readonly actual: string;
  readonly expected: string;

  constructor(action: string, field: string, actual: string, expected: string, cause?: unknown) {
    super(`Cannot ${action}: ${field} is ${actual}, expected ${expected}`, cause === undefined ? undefined : { cause });
    this.field = field;
    this.actual = actual;
    this.expected = expected;
  }
}

/** A value as it may stand in a message: strings quoted, one line, bounded; of objects and arrays only the kind. */
export function describe(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value === "string") return value.length > 80 ? `${JSON.stringify(value.slice(0, 80))}...` : JSON.stringify(value);
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value === "number" || typeof value === "boolean" || typeof value === "bigint") return String(value);
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}
