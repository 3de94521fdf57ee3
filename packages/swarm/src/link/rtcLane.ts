/** A lane over one data channel of one RTCPeerConnection: the browser's own, or `@roamhq/wrtc` in Deno. Standard WebRTC only. */
import { LANE_LOW_BYTES, type Lane, type LaneEvents } from "./lane.ts";

/** Milliseconds between looks at a channel that does not tell when it drains (`@roamhq/wrtc` 0.10 has no bufferedamountlow). */
const DRAIN_POLL_MS = 4;
/**
 * Said before a connection is closed. Whoever hears it closes its own end and sends no more, so that no channel is closed by the other end while something is sent over it: in that moment
 * `@roamhq/wrtc` 0.10 uses a channel that its network thread has taken away (RTCDataChannel::Send), and the process ends.
 */
const GOODBYE = "bye";
/** For the other end to close first. */
const GOODBYE_MS = 2000;

export function rtcLane(connection: RTCPeerConnection, channel: RTCDataChannel): Lane {
  let events: LaneEvents | undefined;
  const early: Uint8Array[] = [];
  let closed: string | undefined;
  let polling: ReturnType<typeof setTimeout> | undefined;
  const tellsDrain = Reflect.has(channel, "bufferedAmountLowThreshold");
  channel.binaryType = "arraybuffer";
  if (tellsDrain) channel.bufferedAmountLowThreshold = LANE_LOW_BYTES;

  const end = (reason: string): void => {
    if (closed !== undefined) return;
    closed = reason;
    clearTimeout(polling);
    connection.close();
    events?.onClose(reason);
  };
  const leave = (): void => {
    if (closed !== undefined || !says(GOODBYE)) return end("closed");
    closed = "closed";
    clearTimeout(polling);
    const timer = setTimeout(() => connection.close(), GOODBYE_MS);
    channel.addEventListener("close", () => {
      clearTimeout(timer);
      connection.close();
    });
    events?.onClose(closed);
  };
  /** @returns whether it is on its way */
  const says = (text: string): boolean => {
    if (channel.readyState !== "open") return false;
    try {
      channel.send(text);
      return true;
    } catch {
      return false;
    }
  };
  const poll = (): void => {
    polling = undefined;
    if (closed !== undefined) return;
    if (channel.bufferedAmount <= LANE_LOW_BYTES) events?.onDrain();
    else polling = setTimeout(poll, DRAIN_POLL_MS);
  };

  channel.addEventListener("message", ({ data }: MessageEvent<unknown>) => {
    if (closed !== undefined) return;
    if (data === GOODBYE) return end("the other end closed it");
    if (!(data instanceof ArrayBuffer)) return end("the other end sent text, which is no frame");
    if (events) events.onFrame(new Uint8Array(data));
    else early.push(new Uint8Array(data));
  });
  channel.addEventListener("bufferedamountlow", () => events?.onDrain());
  channel.addEventListener("close", () => end("the data channel closed"));
  channel.addEventListener("error", () => end("the data channel failed"));
  connection.addEventListener("connectionstatechange", () => {
    if (connection.connectionState === "failed" || connection.connectionState === "closed")
      end(`the connection is ${connection.connectionState}`);
  });

  return {
    kind: "webrtc",
    get bufferedBytes() {
      return closed === undefined ? channel.bufferedAmount : 0;
    },
    listen(listener) {
      events = listener;
      for (const frame of early.splice(0)) listener.onFrame(frame);
      if (closed !== undefined) listener.onClose(closed);
    },
    send(frame) {
      if (closed !== undefined || channel.readyState !== "open") return;
      try {
        channel.send(frame);
      } catch (error) {
        end(`a frame could not be sent: ${error instanceof Error ? error.message : String(error)}`);
        return;
      }
      if (!tellsDrain && polling === undefined && channel.bufferedAmount > LANE_LOW_BYTES) polling = setTimeout(poll, DRAIN_POLL_MS);
    },
    close: leave,
  };
}
