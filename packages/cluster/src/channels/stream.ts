/**
 * Frames over a pair of byte streams, a process's pipes or a socket: each preceded by its length, u32 little-endian. A length beyond `maxFrameBytes` closes the channel before
 * anything is allocated for it.
 */
import { ChannelInbox, type Frame, type FrameChannel, MAX_FRAME_BYTES } from "../wire/channel.ts";

const LENGTH_BYTES = 4;
/** A frame up to this long is written together with its length: a copy costs less than a second write, which may wake the reader for four bytes. */
const WRITTEN_TOGETHER_BYTES = 65_536;

export interface StreamChannelOptions {
  readonly maxFrameBytes?: number;
  /** What ends the streams themselves when the channel closes. */
  readonly end?: () => void;
}

export function streamChannel(
  input: ReadableStream<Uint8Array<ArrayBuffer>>,
  output: WritableStream<Uint8Array<ArrayBuffer>>,
  { maxFrameBytes = MAX_FRAME_BYTES, end }: StreamChannelOptions = {},
): FrameChannel {
  const inbox = new ChannelInbox();
  const reader = input.getReader();
  const writer = output.getWriter();
  const finish = (reason: string): void => {
    if (!inbox.close(reason)) return;
    // Streams that have failed or ended already, which may be why it closes, refuse to be ended.
    reader.cancel().catch(() => undefined);
    writer.abort(reason).catch(() => undefined);
    end?.();
  };
  void receive(reader, maxFrameBytes, (frame) => inbox.arrived(frame)).then(finish, (error: unknown) =>
    finish(error instanceof Error ? error.message : String(error)),
  );
  writer.closed.catch((error: unknown) => finish(`nothing can be written to it: ${String(error)}`));
  return {
    closed: inbox.closed,
    send(frame: Frame): void {
      if (inbox.isClosed) return;
      const together = frame.byteLength <= WRITTEN_TOGETHER_BYTES;
      const first = new Uint8Array(LENGTH_BYTES + (together ? frame.byteLength : 0));
      new DataView(first.buffer).setUint32(0, frame.byteLength, true);
      if (together) first.set(frame, LENGTH_BYTES);
      // What fails shows in `closed`.
      writer.write(first).catch(() => undefined);
      if (!together) writer.write(frame).catch(() => undefined);
    },
    onFrame: (receiver) => inbox.onFrame(receiver),
    close(reason = "it was closed"): void {
      if (inbox.isClosed) return;
      inbox.close(reason);
      // What was sent before still goes out.
      writer.close().then(
        () => end?.(),
        () => end?.(),
      );
      // It may have ended by itself.
      reader.cancel().catch(() => undefined);
    },
  };
}

/** @returns why there are no more */
async function receive(
  reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>,
  maxFrameBytes: number,
  deliver: (frame: Frame) => void,
): Promise<string> {
  const length = new Uint8Array(LENGTH_BYTES);
  /** The part that is being filled: a length, or the frame that it announced. */
  let part: Uint8Array<ArrayBuffer> = length;
  let filled = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return filled === 0 && part === length ? "it ended" : "it ended in the middle of a frame";
    let chunk = value;
    while (chunk.byteLength > 0) {
      const taken = chunk.subarray(0, part.byteLength - filled);
      part.set(taken, filled);
      filled += taken.byteLength;
      chunk = chunk.subarray(taken.byteLength);
      if (filled < part.byteLength) continue;
      filled = 0;
      if (part !== length) {
        deliver(part);
        part = length;
        continue;
      }
      const bytes = new DataView(length.buffer).getUint32(0, true);
      if (bytes === 0 || bytes > maxFrameBytes) return `it sent a frame of ${bytes} bytes, expected 1 to ${maxFrameBytes}`;
      part = new Uint8Array(bytes);
    }
  }
}
