/**
 * What the engine refuses. `code` is stable; `actual` and `expected` are the numbers of the message, where it has some; `field` is the field of the request that it is about,
 * where that is not the prompt.
 */
export type EngineErrorCode = "prompt-too-long" | "bad-request" | "bad-stage" | "busy" | "closed";

export class EngineError extends Error {
  override readonly name = "EngineError";
  readonly code: EngineErrorCode;
  readonly actual: number | undefined;
  readonly expected: number | undefined;
  readonly field: string | undefined;

  constructor(
    code: EngineErrorCode,
    message: string,
    details: { readonly actual?: number; readonly expected?: number; readonly field?: string } = {},
  ) {
    super(message);
    this.code = code;
    this.actual = details.actual;
    this.expected = details.expected;
    this.field = details.field;
  }
}
