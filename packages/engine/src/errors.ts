/** What the engine refuses. `code` is stable; `actual` and `expected` are the numbers of the message, where it has some. */
export type EngineErrorCode = "prompt-too-long" | "bad-request" | "bad-stage" | "busy" | "closed";

export class EngineError extends Error {
  override readonly name = "EngineError";
  readonly code: EngineErrorCode;
  readonly actual: number | undefined;
  readonly expected: number | undefined;

  constructor(code: EngineErrorCode, message: string, numbers: { readonly actual?: number; readonly expected?: number } = {}) {
    super(message);
    this.code = code;
    this.actual = numbers.actual;
    this.expected = numbers.expected;
  }
}
