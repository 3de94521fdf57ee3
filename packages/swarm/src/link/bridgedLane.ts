/**
 * A lane whose connection belongs to another thread: frames go over a MessagePort, and what waits on the far side counts as waiting here. The owner tells after each frame how
 * much that is, and again when it has drained.
 *
 *     here -> owner    Uint8Array, a frame; "close"
 *     owner -> here    Uint8Array, a frame; { sent, waiting }: bytes taken so far, bytes of them that the connection still holds; { closed }: why
 */
import { LANE_LOW_BYTES, type Lane, type LaneEvents } from "./lane.ts";

const CLOSE = "close";

type FromOwner = Uint8Array | { readonly sent: number; readonly waiting: number } | { readonly closed: string };

/** The owner's side. The port is the lane's from now on. */
export function bridgeLane(lane: Lane, port: MessagePort): void {
  let sent = 0;
  const tell = (message: FromOwner, transfer: Transferable[] = []): void => port.postMessage(message, transfer);
  const account = (): void => tell({ sent, waiting: lane.bufferedBytes });
  port.addEventListener("message", ({ data }: MessageEvent<unknown>) => {
    if (data instanceof Uint8Array) {
      const { byteLength } = data;
      lane.send(data as Uint8Array<ArrayBuffer>);
      sent += byteLength;
      account();
    } else lane.close();
  });
  lane.listen({
    onFrame: (frame) =>
      tell(frame, frame.buffer instanceof ArrayBuffer && frame.byteLength === frame.buffer.byteLength ? [frame.buffer] : []),
    onDrain: account,
    onClose: (closed) => {
      tell({ closed });
      port.close();
    },
  });
  port.start();
}

/** The other side: as if the connection were here. A port tells nobody when its other end dies; the link's heartbeats do. */
export function bridgedLane(port: MessagePort, kind: string): Lane {
  let events: LaneEvents | undefined;
  let closed: string | undefined;
  let posted = 0;
  let taken = 0;
  let waiting = 0;
  const buffered = (): number => posted - taken + waiting;
  const end = (reason: string): void => {
    if (closed !== undefined) return;
    closed = reason;
    port.close();
    events?.onClose(reason);
  };
  return {
    kind,
    get bufferedBytes() {
      return closed === undefined ? buffered() : 0;
    },
    listen(listener) {
      events = listener;
      port.addEventListener("message", ({ data }: MessageEvent<FromOwner>) => {
        if (closed !== undefined) return;
        if (data instanceof Uint8Array) return listener.onFrame(data);
        if ("closed" in data) return end(data.closed);
        const wasHigh = buffered() > LANE_LOW_BYTES;
        taken = data.sent;
        waiting = data.waiting;
        if (wasHigh && buffered() <= LANE_LOW_BYTES) listener.onDrain();
      });
      port.start();
    },
    send(frame) {
      if (closed !== undefined) return;
      posted += frame.byteLength;
      // A part of a larger buffer is copied: the rest is somebody else's.
      port.postMessage(frame, frame.byteLength === frame.buffer.byteLength ? [frame.buffer] : []);
    },
    close() {
      if (closed === undefined) port.postMessage(CLOSE);
      end("closed");
    },
  };
}
