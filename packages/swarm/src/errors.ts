/** What goes wrong in a swarm. `code` is stable; `field`, `actual` and `expected` are there where a message of somebody else's was refused. */
export type SwarmErrorCode =
  /** A frame, message or announcement breaks its format or its bounds. */
  | "malformed"
  /** Not a member, expelled, or a proof that does not hold. */
  | "not-a-member"
  /** The link is gone, or could not be made in time. */
  | "link-lost"
  /** Too much at once: a queue is full, or somebody floods. */
  | "overloaded"
  /** An invite cannot be read, is of another version, or is out of date. */
  | "invite"
  /** Bytes of weights do not have the digest that the manifest gives them. */
  | "bad-chunk"
  /** Nobody holds some of the layers. */
  | "incomplete"
  /** Closed by its owner. */
  | "closed";

export class SwarmError extends Error {
  override readonly name = "SwarmError";
  readonly code: SwarmErrorCode;
  readonly field: string | undefined;
  readonly actual: unknown;
  readonly expected: string | undefined;

  constructor(
    code: SwarmErrorCode,
    message: string,
    details: ErrorOptions & { readonly field?: string; readonly actual?: unknown; readonly expected?: string } = {},
  ) {
    super(message, details);
    this.code = code;
    this.field = details.field;
    this.actual = details.actual;
    this.expected = details.expected;
  }
}

/** Of something that a peer sent: `what` names it, as in "Cannot read a frame". */
export function malformed(what: string, field: string, actual: unknown, expected: string): SwarmError {
  return new SwarmError("malformed", `Cannot read ${what}: ${field} is ${shown(actual)}, expected ${expected}`, {
    field,
    actual,
    expected,
  });
}

function shown(value: unknown): string {
  if (typeof value === "string") return `'${value.slice(0, 80)}'`;
  if (typeof value === "number" || typeof value === "bigint" || typeof value === "boolean") return String(value);
  return value === undefined ? "missing" : value === null ? "null" : typeof value;
}
