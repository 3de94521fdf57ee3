/** Texts and frames over one stream of libp2p's: u32 length, little-endian, then u8 0 for text or 1 for a frame, then its bytes. */
import type { Stream, StreamMessageEvent } from "@libp2p/interface";
import { SwarmError, malformed } from "../errors.ts";
import { MAX_FRAME_BYTES } from "../link/frames.ts";
import { Inbox } from "./inbox.ts";
import { MAX_TEXT_BYTES, MAX_WAITING, type PeerChannel } from "./rendezvous.ts";

const HEADER_BYTES = 5;
const TEXT = 0;
const FRAME = 1;
/** Of what is written and not yet taken by the transport. */
const MAX_WRITE_BYTES = 16 * 2 ** 20;

export function streamChannel(stream: Stream, remote: string): PeerChannel {
  const texts = new Inbox<string>(MAX_WAITING);
  let takeFrame: (frame: Uint8Array) => void = () => {};
  let rest = new Uint8Array(0);
  stream.maxWriteBufferLength = MAX_WRITE_BYTES;
  // Signs of life are the link's.
  stream.inactivityTimeout = Number.POSITIVE_INFINITY;

  const end = (error: Error): void => texts.end(error);
  const refuse = (error: Error): void => {
    end(error);
    stream.abort(error);
  };
  const write = (kind: number, bytes: Uint8Array): void => {
    if (stream.status !== "open") return;
    const message = new Uint8Array(HEADER_BYTES + bytes.byteLength);
    new DataView(message.buffer).setUint32(0, bytes.byteLength, true);
    message[4] = kind;
    message.set(bytes, HEADER_BYTES);
    try {
      stream.send(message);
    } catch (cause) {
      refuse(new SwarmError("link-lost", `Cannot write to '${remote}'`, { cause }));
    }
  };

  stream.addEventListener("message", ({ data }: StreamMessageEvent) => {
    const bytes = data.subarray();
    const all = new Uint8Array(rest.byteLength + bytes.byteLength);
    all.set(rest);
    all.set(bytes, rest.byteLength);
    let at = 0;
    while (all.byteLength - at >= HEADER_BYTES) {
      const length = new DataView(all.buffer).getUint32(at, true);
      const kind = all[at + 4];
      const most = kind === TEXT ? MAX_TEXT_BYTES : MAX_FRAME_BYTES;
      if ((kind !== TEXT && kind !== FRAME) || length > most)
        return refuse(malformed("a message", "its length", length, `at most ${most}`));
      const begin = at + HEADER_BYTES;
      if (all.byteLength - begin < length) break;
      const body = all.slice(begin, begin + length);
      at = begin + length;
      if (kind === FRAME) takeFrame(body);
      else texts.put(new TextDecoder().decode(body));
    }
    rest = all.slice(at);
  });
  stream.addEventListener("close", ({ error }) =>
    end(new SwarmError("link-lost", `The channel to '${remote}' is closed`, { cause: error })),
  );

  return {
    remote,
    send: (text) => write(TEXT, new TextEncoder().encode(text)),
    receive: () => texts.take(),
    sendFrame: (frame) => write(FRAME, frame),
    onFrame: (take) => (takeFrame = take),
    close: () => {
      end(new SwarmError("link-lost", `The channel to '${remote}' is closed`));
      stream.close().catch(() => undefined);
    },
    closed: texts.ended.then(() => undefined),
  };
}
