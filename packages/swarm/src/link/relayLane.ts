/** A lane over a channel of the rendezvous: where two peers cannot connect, the relay between them carries their frames. Slow, and said so. */
import type { Lane, LaneEvents } from "./lane.ts";

/** The part of a rendezvous' channel that carries frames. */
export interface FrameCarrier {
  sendFrame(frame: Uint8Array<ArrayBuffer>): void;
  onFrame(take: (frame: Uint8Array) => void): void;
  close(): void;
  readonly closed: Promise<void>;
}

export function relayLane(channel: FrameCarrier): Lane {
  let events: LaneEvents | undefined;
  let closed = false;
  const early: Uint8Array[] = [];
  const end = (reason: string): void => {
    if (closed) return;
    closed = true;
    channel.close();
    events?.onClose(reason);
  };
  channel.onFrame((frame) => {
    if (events) events.onFrame(frame);
    else early.push(frame);
  });
  void channel.closed.then(() => end("the relay's channel closed"));
  return {
    kind: "relay",
    // Not known: the link's window bounds what is on its way.
    bufferedBytes: 0,
    listen(listener) {
      events = listener;
      for (const frame of early.splice(0)) listener.onFrame(frame);
    },
    send(frame) {
      if (!closed) channel.sendFrame(frame);
    },
    close: () => end("closed"),
  };
}
