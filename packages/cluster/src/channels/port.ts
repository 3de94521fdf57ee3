/**
 * Frames over a MessagePort or to a worker: buffers are transferred, not copied. A port says nothing when its other end is gone, so closing is announced by a message; a thread that
 * dies without one is noticed by its worker's `error` event (`workerChannel`), or by its silence (wire/calls.ts).
 */
import { ChannelInbox, type Frame, type FrameChannel } from "../wire/channel.ts";

/** What a MessagePort, a Worker and a worker's own scope have in common. */
export interface PortLike {
  postMessage(message: unknown, transfer: Transferable[]): void;
  addEventListener(type: "message" | "messageerror", listener: (event: MessageEvent) => void): void;
  removeEventListener(type: "message" | "messageerror", listener: (event: MessageEvent) => void): void;
  /** Of ports. */
  start?(): void;
}

interface Goodbye {
  readonly closed: string;
}

/** @param end what ends the port itself when the channel closes */
export function portChannel(port: PortLike, end: () => void = () => undefined): FrameChannel {
  const inbox = new ChannelInbox();
  const onMessage = ({ data }: MessageEvent<unknown>): void => {
    if (data instanceof Uint8Array && data.buffer instanceof ArrayBuffer) inbox.arrived(data as Frame);
    else if (isGoodbye(data)) finish(data.closed.slice(0, 200));
    else finish("it sent something that is no frame");
  };
  const onError = (): void => finish("it sent something that cannot be read");
  const finish = (reason: string): void => {
    if (!inbox.close(reason)) return;
    port.removeEventListener("message", onMessage);
    port.removeEventListener("messageerror", onError);
    end();
  };
  port.addEventListener("message", onMessage);
  port.addEventListener("messageerror", onError);
  port.start?.();
  return {
    closed: inbox.closed,
    send(frame: Frame): void {
      if (!inbox.isClosed) port.postMessage(frame, [frame.buffer]);
    },
    onFrame: (receive) => inbox.onFrame(receive),
    close(reason = "it was closed"): void {
      if (inbox.isClosed) return;
      port.postMessage({ closed: reason } satisfies Goodbye, []);
      finish(reason);
    },
  };
}

/** To a worker that this thread started. Its death, by an error or by `terminate`, closes the channel. */
export function workerChannel(worker: Worker, terminate: () => void = () => worker.terminate()): FrameChannel {
  const channel = portChannel(worker, terminate);
  worker.addEventListener("error", (event) => {
    // Otherwise Deno ends the whole process with a stack trace.
    event.preventDefault();
    channel.close(`its worker died: ${event.message}`);
  });
  return channel;
}

function isGoodbye(data: unknown): data is Goodbye {
  return typeof data === "object" && data !== null && "closed" in data && typeof data.closed === "string";
}
