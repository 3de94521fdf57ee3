/**
 * A way for frames: whole, in order, both ways. Implementations are a worker's port, a process's pipes, a pair in memory, a WebRTC link; what goes over them is the same
 * (frame.ts), and one contract suite runs over all.
 */

/** One message. Whoever gets it may keep views into it. */
export type Frame = Uint8Array<ArrayBuffer>;

export interface FrameChannel {
  /**
   * Hands a frame over; it may be detached, so the caller does not use it again. Frames sent to a channel that has closed go nowhere.
   * @throws never: what goes wrong closes the channel
   */
  send(frame: Frame): void;
  /** Who gets the frames that arrive, one receiver at most; those that arrived before wait for it. */
  onFrame(receive: (frame: Frame) => void): void;
  /** Ends it from this side. */
  close(reason?: string): void;
  /** Resolves, with why, when no frame goes through any more. Never rejects. */
  readonly closed: Promise<string>;
}

/** Largest frame: logits of 256 tokens of the 671B model are 132 MB, the KV rows of 4096 of its tokens 290 MB. */
export const MAX_FRAME_BYTES = 512 * 2 ** 20;

/** What every channel does alike: frames that came before their receiver wait, and closing happens once. */
export class ChannelInbox {
  readonly closed: Promise<string>;
  readonly #close: (reason: string) => void;
  #isClosed = false;
  #receive: ((frame: Frame) => void) | undefined;
  #waiting: Frame[] = [];

  constructor() {
    let close: (reason: string) => void = () => undefined;
    this.closed = new Promise((resolve) => (close = resolve));
    this.#close = close;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  arrived(frame: Frame): void {
    if (this.#isClosed) return;
    if (this.#receive) this.#receive(frame);
    else this.#waiting.push(frame);
  }

  onFrame(receive: (frame: Frame) => void): void {
    this.#receive = receive;
    for (const frame of this.#waiting.splice(0)) receive(frame);
  }

  /** @returns whether it was open until now */
  close(reason: string): boolean {
    if (this.#isClosed) return false;
    this.#isClosed = true;
    this.#waiting = [];
    this.#close(reason);
    return true;
  }
}

/** Place and values of a frame's kind (frame.ts): calls and pings are for whoever answers. */
const KIND_BYTE = 4;
const FOR_ANSWERER: readonly number[] = [0, 3];

/** One channel for calls in both directions: the first end is a caller's, the second an answerer's. Closing either closes it. */
export function bothWays(channel: FrameChannel): readonly [FrameChannel, FrameChannel] {
  const inboxes = [new ChannelInbox(), new ChannelInbox()] as const;
  channel.onFrame((frame) => inboxes[FOR_ANSWERER.includes(frame[KIND_BYTE] ?? 0) ? 1 : 0].arrived(frame));
  void channel.closed.then((reason) => inboxes.forEach((inbox) => inbox.close(reason)));
  const end = (inbox: ChannelInbox): FrameChannel => ({
    closed: channel.closed,
    send: (frame) => channel.send(frame),
    onFrame: (receive) => inbox.onFrame(receive),
    close: (reason) => channel.close(reason),
  });
  return [end(inboxes[0]), end(inboxes[1])];
}
