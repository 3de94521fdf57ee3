/** The data of server-sent events, out of a response's body. */
import { createParser } from "eventsource-parser";

/** UTF-16 units of one event. */
const MAX_EVENT = 4 * 2 ** 20;

/** Leaving the loop cancels the body. @throws TypeError where the connection breaks, RangeError for an event beyond all bounds */
export async function* eventData(body: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string, void> {
  const ready: string[] = [];
  let tooLarge = false;
  const parser = createParser({
    maxBufferSize: MAX_EVENT,
    onEvent: ({ data }) => ready.push(data),
    onError: ({ type }) => (tooLarge ||= type === "max-buffer-size-exceeded"),
  });
  const decoder = new TextDecoder();
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      parser.feed(done ? decoder.decode() : decoder.decode(value, { stream: true }));
      if (tooLarge) throw new RangeError(`Cannot read the stream: an event has more than ${MAX_EVENT} characters`);
      yield* ready.splice(0);
      if (done) return;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
