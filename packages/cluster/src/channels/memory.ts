/** Two ends of a channel in one thread. Frames arrive in a later turn, as they do everywhere else. */
import { ChannelInbox, type Frame, type FrameChannel } from "../wire/channel.ts";

export function memoryChannel(): readonly [FrameChannel, FrameChannel] {
  const inboxes = [new ChannelInbox(), new ChannelInbox()] as const;
  const end = (own: ChannelInbox, other: ChannelInbox): FrameChannel => ({
    closed: own.closed,
    send(frame: Frame): void {
      if (!own.isClosed) queueMicrotask(() => other.arrived(frame));
    },
    onFrame: (receive) => own.onFrame(receive),
    close(reason = "it was closed"): void {
      own.close(reason);
      queueMicrotask(() => other.close(reason));
    },
  });
  return [end(inboxes[0], inboxes[1]), end(inboxes[1], inboxes[0])];
}
