/** What can go wrong between devices. `code` is stable; messages say what is, and what was expected. */
export type ClusterErrorCode =
  /** A frame or a field of one is not what the protocol says. */
  | "bad-frame"
  /** The other side refuses: no such method, or too many calls at once. */
  | "refused"
  /** A device, process or peer could not be started. */
  | "cannot-start"
  /** What was asked for does not fit together: stages without a layer, experts that nobody has. */
  | "bad-plan";

export class ClusterError extends Error {
  override readonly name = "ClusterError";
  readonly code: ClusterErrorCode;
  /** The field of a frame or an option that is wrong. */
  readonly field: string | undefined;
  constructor(code: ClusterErrorCode, message: string, options: ErrorOptions & { readonly field?: string } = {}) {
    super(message, options);
    this.code = code;
    this.field = options.field;
  }
}

/** Whoever held a stage or a shard is gone: its process ended, its worker died, the connection broke, or it has been silent for too long. */
export class PeerLostError extends Error {
  override readonly name = "PeerLostError";
  /** Which one, as its opener named it. */
  readonly peer: string;
  constructor(peer: string, reason: string, options?: ErrorOptions) {
    super(`Cannot reach ${peer}: ${reason}`, options);
    this.peer = peer;
  }
}
