/** What a bench refuses to measure. `code` is stable. */
export type BenchErrorCode = "wrong-answer" | "not-reproducible" | "bad-options";

export class BenchError extends Error {
  override readonly name = "BenchError";
  readonly code: BenchErrorCode;
  constructor(code: BenchErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
