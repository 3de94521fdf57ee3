/**
 * What goes over one lane of a link. A message of any size is cut into fragments; each frame is one fragment, an acknowledgement, or a sign of life.
 * Everything is little-endian:
 *
 *     0  u8   version, 1
 *     1  u8   kind
 *     2  u16  reserved, 0
 *     4  u32  CRC-32 of all that follows
 *     8  ...  by kind:
 *             DATA  u32 message number, u32 bytes of the message, u32 offset of the fragment, the fragment
 *             ACK   u32 every message before this number has arrived
 *             PING  u32 number, PONG the same number back
 *             BYE   u16 bytes of a reason, UTF-8
 *
 * Numbers of messages start at 0 and count up; a link ends before they run out of 32 bits (LAST_MESSAGE).
 */
import { malformed } from "../errors.ts";
import { crc32 } from "./crc32.ts";

export const FRAME_VERSION = 1;
/** Bytes. What every implementation of data channels takes whole; larger ones are not portable (RFC 8831, 6.6). */
export const MAX_FRAME_BYTES = 16 * 1024;
export const DATA_HEADER_BYTES = 20;
export const MAX_FRAGMENT_BYTES = MAX_FRAME_BYTES - DATA_HEADER_BYTES;
/** Bytes of one message: the hidden states of 256 tokens of the largest model as f32 are 7 MiB, a chunk of weights 4 MiB. */
export const MAX_MESSAGE_BYTES = 32 * 2 ** 20;
export const LAST_MESSAGE = 0xffff_fff0;
const MAX_REASON_BYTES = 512;
const BODY = 8;
const KIND = { data: 1, ack: 2, ping: 3, pong: 4, bye: 5 } as const;

export interface DataFrame {
  readonly kind: "data";
  readonly message: number;
  readonly totalBytes: number;
  readonly offset: number;
  /** A view of the frame's memory. */
  readonly fragment: Uint8Array;
}

export type Frame =
  | DataFrame
  /** `next`: the first message that has not arrived. */
  | { readonly kind: "ack"; readonly next: number }
  | { readonly kind: "ping" | "pong"; readonly number: number }
  | { readonly kind: "bye"; readonly reason: string };

export function encodeFrame(frame: Frame): Uint8Array<ArrayBuffer> {
  switch (frame.kind) {
    case "data": {
      const { view, bytes } = begin(KIND.data, DATA_HEADER_BYTES - BODY + frame.fragment.byteLength);
      view.setUint32(8, frame.message, true);
      view.setUint32(12, frame.totalBytes, true);
      view.setUint32(16, frame.offset, true);
      bytes.set(frame.fragment, DATA_HEADER_BYTES);
      return sealed(view, bytes);
    }
    case "ack": {
      const { view, bytes } = begin(KIND.ack, 4);
      view.setUint32(8, frame.next, true);
      return sealed(view, bytes);
    }
    case "ping":
    case "pong": {
      const { view, bytes } = begin(KIND[frame.kind], 4);
      view.setUint32(8, frame.number, true);
      return sealed(view, bytes);
    }
    case "bye": {
      const reason = new TextEncoder().encode(frame.reason).subarray(0, MAX_REASON_BYTES);
      const { view, bytes } = begin(KIND.bye, 2 + reason.byteLength);
      view.setUint16(8, reason.byteLength, true);
      bytes.set(reason, 10);
      return sealed(view, bytes);
    }
  }
}

/** @throws SwarmError named malformed; nothing has been allocated then */
export function decodeFrame(bytes: Uint8Array): Frame {
  const refuse = (field: string, actual: unknown, expected: string): never => {
    throw malformed("a frame", field, actual, expected);
  };
  if (bytes.byteLength < BODY || bytes.byteLength > MAX_FRAME_BYTES)
    refuse("its length", bytes.byteLength, `${BODY} to ${MAX_FRAME_BYTES} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint8(0) !== FRAME_VERSION) refuse("its version", view.getUint8(0), String(FRAME_VERSION));
  if (view.getUint16(2, true) !== 0) refuse("its reserved field", view.getUint16(2, true), "0");
  const sum = crc32(bytes.subarray(BODY));
  if (view.getUint32(4, true) !== sum) refuse("its checksum", view.getUint32(4, true), String(sum));
  const kind = view.getUint8(1);
  const exactly = (length: number): void => {
    if (bytes.byteLength !== length) refuse("its length", bytes.byteLength, `${length} bytes for a frame of this kind`);
  };
  switch (kind) {
    case KIND.data:
      return decodeData(bytes, view);
    case KIND.ack:
      exactly(12);
      return { kind: "ack", next: messageNumber(view.getUint32(8, true)) };
    case KIND.ping:
    case KIND.pong:
      exactly(12);
      return { kind: kind === KIND.ping ? "ping" : "pong", number: view.getUint32(8, true) };
    case KIND.bye: {
      if (bytes.byteLength < 10) refuse("its length", bytes.byteLength, "at least 10 bytes");
      const length = view.getUint16(8, true);
      if (length > MAX_REASON_BYTES) refuse("the reason's length", length, `at most ${MAX_REASON_BYTES}`);
      exactly(10 + length);
      return { kind: "bye", reason: new TextDecoder().decode(bytes.subarray(10)) };
    }
    default:
      return refuse("its kind", kind, "1 to 5");
  }
}

function decodeData(bytes: Uint8Array, view: DataView): DataFrame {
  const refuse = (field: string, actual: unknown, expected: string): never => {
    throw malformed("a frame", field, actual, expected);
  };
  if (bytes.byteLength < DATA_HEADER_BYTES) refuse("its length", bytes.byteLength, `at least ${DATA_HEADER_BYTES} bytes`);
  const message = messageNumber(view.getUint32(8, true));
  const totalBytes = view.getUint32(12, true);
  const offset = view.getUint32(16, true);
  const fragment = bytes.subarray(DATA_HEADER_BYTES);
  if (totalBytes > MAX_MESSAGE_BYTES) refuse("the message's length", totalBytes, `at most ${MAX_MESSAGE_BYTES}`);
  if (offset + fragment.byteLength > totalBytes) refuse("the fragment's end", offset + fragment.byteLength, `at most ${totalBytes}`);
  if (fragment.byteLength === 0 && totalBytes > 0) refuse("the fragment's length", 0, "at least one byte");
  return { kind: "data", message, totalBytes, offset, fragment };
}

function messageNumber(value: number): number {
  if (value > LAST_MESSAGE) throw malformed("a frame", "the message's number", value, `at most ${LAST_MESSAGE}`);
  return value;
}

function begin(kind: number, bodyBytes: number): { readonly view: DataView<ArrayBuffer>; readonly bytes: Uint8Array<ArrayBuffer> } {
  const bytes = new Uint8Array(BODY + bodyBytes);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, FRAME_VERSION);
  view.setUint8(1, kind);
  return { view, bytes };
}

function sealed(view: DataView, bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  view.setUint32(4, crc32(bytes.subarray(BODY)), true);
  return bytes;
}
