/** What a stage refuses to do. `code` is stable; messages say what is, and what was expected. */
export type ModelErrorCode =
  | "bad-weights"
  | "context-exceeded"
  | "out-of-kv-blocks"
  | "unknown-sequence"
  | "bad-batch"
  | "too-many-sequences"
  | "unsupported";

export class ModelError extends Error {
  override readonly name = "ModelError";
  readonly code: ModelErrorCode;
  constructor(code: ModelErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Whether what a stage held is gone, so that another must take its place: its device, or whoever held it. By name: the error may have crossed a channel or a worker's port. */
export function isLoss(error: unknown): boolean {
  return error instanceof Error && (error.name === "DeviceLostError" || error.name === "PeerLostError");
}
