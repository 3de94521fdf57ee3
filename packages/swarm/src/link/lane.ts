/**
 * One connection below a link: whole frames in, whole frames out, in order and without loss while it lives. A link is made of several, because each has a congestion
 * window of its own.
 */
export interface LaneEvents {
  readonly onFrame: (frame: Uint8Array) => void;
  /** Once; nothing comes after it. */
  readonly onClose: (reason: string) => void;
  /** What waits to be sent has fallen below LANE_LOW_BYTES. */
  readonly onDrain: () => void;
}

export interface Lane {
  /** For people: "webrtc", "memory", "port", "relay". */
  readonly kind: string;
  /** Once, before anything else. */
  listen(events: LaneEvents): void;
  /** Bytes that wait to be sent. */
  readonly bufferedBytes: number;
  /** Does nothing when the lane is closed. The frame must not be changed afterwards. */
  send(frame: Uint8Array<ArrayBuffer>): void;
  close(): void;
}

/** A lane with more waiting than this gets no further fragments: 20 ms at 50 MB/s. */
export const LANE_HIGH_BYTES = 2 ** 20;
/** Where sending goes on. */
export const LANE_LOW_BYTES = 2 ** 18;
