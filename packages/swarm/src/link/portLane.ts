/** A lane over a MessagePort: to a worker of this process. A port tells nobody when its other end dies; the link's heartbeats do. */
import type { Lane, LaneEvents } from "./lane.ts";

const CLOSE = "close";

export function portLane(port: MessagePort): Lane {
  let events: LaneEvents | undefined;
  let closed = false;
  const end = (reason: string): void => {
    if (closed) return;
    closed = true;
    port.close();
    events?.onClose(reason);
  };
  return {
    kind: "port",
    bufferedBytes: 0,
    listen(listener) {
      events = listener;
      port.addEventListener("message", ({ data }: MessageEvent<unknown>) => {
        if (closed) return;
        if (data instanceof Uint8Array) listener.onFrame(data);
        else end(data === CLOSE ? "closed by the other end" : "the other end sent something that is no frame");
      });
      port.addEventListener("messageerror", () => end("a message could not be read"));
      port.start();
    },
    send(frame) {
      if (!closed) port.postMessage(frame, [frame.buffer]);
    },
    close() {
      if (!closed) port.postMessage(CLOSE);
      end("closed");
    },
  };
}
