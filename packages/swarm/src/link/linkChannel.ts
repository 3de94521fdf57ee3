/**
 * A link as a channel of `@shoal/cluster`'s, for the calls of a stage. A frame of those may be larger than a link's message: it goes in parts, each with a byte before it that
 * says whether more follow.
 */
import { ChannelInbox, type Frame, type FrameChannel, MAX_FRAME_BYTES } from "@shoal/cluster";
import { MAX_MESSAGE_BYTES } from "./frames.ts";
import type { Link } from "./link.ts";

const LAST = 0;
const MORE = 1;
const PART_BYTES = MAX_MESSAGE_BYTES - 1;

/** @param maxBytes of a frame; whoever sends more is not listened to any longer */
export function linkChannel(link: Link, maxBytes = MAX_FRAME_BYTES): FrameChannel {
  const inbox = new ChannelInbox();
  let parts: Uint8Array<ArrayBuffer>[] = [];
  let bytes = 0;
  const finish = (reason: string): void => {
    if (!inbox.close(reason)) return;
    parts = [];
    link.close(reason);
  };
  link.listen((message) => {
    const [kind] = message;
    const part = message.subarray(1);
    bytes += part.byteLength;
    if ((kind !== LAST && kind !== MORE) || bytes > maxBytes) return finish("it sent something that is no frame");
    parts.push(part);
    if (kind === MORE) return;
    const frame = whole(parts, bytes);
    parts = [];
    bytes = 0;
    inbox.arrived(frame);
  });
  void link.closed.then((error) => finish(error.message));
  return {
    closed: inbox.closed,
    send(frame: Frame): void {
      for (let at = 0; at < frame.byteLength || at === 0; at += PART_BYTES) {
        const part = frame.subarray(at, at + PART_BYTES);
        const message = new Uint8Array(1 + part.byteLength);
        message[0] = at + PART_BYTES < frame.byteLength ? MORE : LAST;
        message.set(part, 1);
        // What fails shows in `closed`.
        link.send(message).catch(() => undefined);
      }
    },
    onFrame: (receive) => inbox.onFrame(receive),
    close: finish.bind(undefined, "it was closed"),
  };
}

/** In memory of its own: the message begins with a byte that is none of the frame's, and views into it would lie at odd places. */
function whole(parts: readonly Uint8Array<ArrayBuffer>[], bytes: number): Frame {
  const frame = new Uint8Array(bytes);
  let at = 0;
  for (const part of parts) {
    frame.set(part, at);
    at += part.byteLength;
  }
  return frame;
}
