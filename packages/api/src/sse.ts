/** Server-sent events: one JSON value an event, comments while nothing happens, and `[DONE]` at the end. */

export interface EventStreamOptions {
  readonly keepAliveMs: number;
  /** Nobody reads any more. */
  readonly onCancel: () => void;
  /** What is written in place of the rest when the source fails. */
  readonly onError: (error: unknown) => unknown;
}

export const EVENT_STREAM_HEADERS: Readonly<Record<string, string>> = {
  "content-type": "text/event-stream; charset=utf-8",
  "cache-control": "no-cache",
  // nginx would otherwise collect events before it passes them on.
  "x-accel-buffering": "no",
};

const COMMENT = ": keep-alive\n\n";
const SILENCE = Symbol("silence");

/** @param source is read as fast as the client reads, no faster */
export function eventStream(
  source: AsyncIterator<unknown, void>,
  { keepAliveMs, onCancel, onError }: EventStreamOptions,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let cancelled = false;
  let next: Promise<IteratorResult<unknown, void>> | undefined;
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const write = (text: string): void => controller.enqueue(encoder.encode(text));
      try {
        next ??= source.next();
        const result = await within(next, keepAliveMs);
        if (result === SILENCE) {
          write(COMMENT);
          return;
        }
        next = undefined;
        if (result.done !== true) {
          write(event(result.value));
          return;
        }
        write("data: [DONE]\n\n");
        controller.close();
      } catch (error) {
        // Nobody is told of the end that they made themselves.
        if (cancelled) return;
        write(event(onError(error)));
        controller.close();
      }
    },
    cancel() {
      cancelled = true;
      next?.catch(() => {});
      onCancel();
      source.return?.()?.catch(() => {});
    },
  });
}

function event(value: unknown): string {
  return `data: ${JSON.stringify(value)}\n\n`;
}

/** `promise`, or `SILENCE` if it takes longer. */
export async function within<T>(promise: Promise<T>, ms: number): Promise<T | typeof SILENCE> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const silence = new Promise<typeof SILENCE>((resolve) => {
    timer = setTimeout(() => resolve(SILENCE), ms);
  });
  try {
    return await Promise.race([promise, silence]);
  } finally {
    clearTimeout(timer);
  }
}
