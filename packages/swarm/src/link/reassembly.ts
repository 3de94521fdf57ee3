/** Fragments to messages, each once and in order. Memory is bounded by the window: a fragment outside it is refused before anything is allocated. */
import { malformed } from "../errors.ts";
import type { DataFrame } from "./frames.ts";

/** Messages on their way at once. */
export const WINDOW_MESSAGES = 256;
/** Bytes of messages on their way at once, unless one message alone is larger. */
export const WINDOW_BYTES = 64 * 2 ** 20;

interface Incoming {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Bytes, by offset. */
  readonly fragments: Map<number, number>;
  missing: number;
}

export class Reassembly {
  readonly #incoming = new Map<number, Incoming>();
  #bytes = 0;
  #next = 0;

  /** The first message that has not arrived. */
  get next(): number {
    return this.#next;
  }

  /**
   * @returns the messages that are complete now, in order
   * @throws SwarmError named malformed
   */
  add(frame: DataFrame): readonly Uint8Array<ArrayBuffer>[] {
    const { message, totalBytes, offset, fragment } = frame;
    // Sent again, because its lane or our acknowledgement was lost.
    if (message < this.#next) return [];
    const incoming = this.#incoming.get(message) ?? this.#begin(message, totalBytes);
    if (incoming.bytes.byteLength !== totalBytes)
      throw malformed("a frame", "the message's length", totalBytes, `${incoming.bytes.byteLength}, as before`);
    const before = incoming.fragments.get(offset);
    if (before === fragment.byteLength) return [];
    if (before !== undefined) throw malformed("a frame", "the fragment's length", fragment.byteLength, `${before}, as before`);
    if (fragment.byteLength > incoming.missing)
      throw malformed("a frame", "the fragment's length", fragment.byteLength, `at most the ${incoming.missing} that are missing`);
    incoming.fragments.set(offset, fragment.byteLength);
    incoming.bytes.set(fragment, offset);
    incoming.missing -= fragment.byteLength;
    return incoming.missing === 0 ? this.#complete() : [];
  }

  #begin(message: number, totalBytes: number): Incoming {
    const end = this.#next + WINDOW_MESSAGES;
    if (message >= end) throw malformed("a frame", "the message's number", message, `less than ${end}, the end of the window`);
    if (this.#incoming.size > 0 && this.#bytes + totalBytes > WINDOW_BYTES)
      throw malformed("a frame", "the message's length", totalBytes, `at most ${WINDOW_BYTES - this.#bytes}, the rest of the window`);
    const incoming = { bytes: new Uint8Array(totalBytes), fragments: new Map<number, number>(), missing: totalBytes };
    this.#incoming.set(message, incoming);
    this.#bytes += totalBytes;
    return incoming;
  }

  #complete(): Uint8Array<ArrayBuffer>[] {
    const messages: Uint8Array<ArrayBuffer>[] = [];
    for (;;) {
      const incoming = this.#incoming.get(this.#next);
      if (incoming?.missing !== 0) return messages;
      checkCovered(incoming);
      this.#incoming.delete(this.#next);
      this.#bytes -= incoming.bytes.byteLength;
      this.#next++;
      messages.push(incoming.bytes);
    }
  }
}

/** Lengths add up also where fragments overlap and leave a hole. */
function checkCovered({ fragments, bytes }: Incoming): void {
  let end = 0;
  for (const offset of [...fragments.keys()].sort((a, b) => a - b)) {
    if (offset !== end) throw malformed("a message", "the offset of a fragment", offset, String(end));
    end += fragments.get(offset) ?? 0;
  }
  if (end !== bytes.byteLength) throw malformed("a message", "the end of its fragments", end, String(bytes.byteLength));
}
