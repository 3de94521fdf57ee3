/** A link to one peer: messages of bytes, in order, each once, whatever carries them. */
export interface LinkStats {
  /** Milliseconds there and back, of the quickest lane; undefined until the first answer. */
  readonly rttMs: number | undefined;
  readonly lanes: number;
  /** "webrtc", or "relay" where nothing else connects: slow. */
  readonly kind: string;
  /** For how long nothing has come, where that is longer than is usual on this link; else 0. Whoever waits for an answer had better ask somebody else. */
  readonly silentMs: number;
  readonly sentBytes: number;
  readonly receivedBytes: number;
  /** Fragments sent again because their lane was lost. */
  readonly resent: number;
}

export interface Link {
  /** Who is at the other end; proven before the link exists. */
  readonly remote: string;
  /** Once; messages that came before are given then. A handler that throws ends the link. */
  listen(onMessage: (message: Uint8Array<ArrayBuffer>) => void): void;
  /**
   * Resolves when the message has been taken into the window, not when it has arrived. The bytes must not be changed afterwards.
   * @throws SwarmError link-lost or closed; malformed for more than MAX_MESSAGE_BYTES
   */
  send(message: Uint8Array): Promise<void>;
  /** Tells the other end, then closes. */
  close(reason?: string): void;
  /** Resolves, with what ended it, when the link has ended. */
  readonly closed: Promise<Error>;
  stats(): LinkStats;
}
