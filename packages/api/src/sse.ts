/** Server-sent events: one JSON value an event, comments while nothing happens, and `[DONE]` at the end. */

export interface EventStreamOptions {
  readonly keepAliveMs: number;
  /** Ends the stream: its source fails then, and where nobody reads, who would be told, the stream does. */
  readonly signal: AbortSignal;
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
/** Whoever has not asked for more within it does not read. */
const LAST_WORDS_MS = 1000;

/** @param source is read as fast as the client reads, no faster */
export function eventStream(
  source: AsyncIterator<unknown, void>,
  { keepAliveMs, signal, onCancel, onError }: EventStreamOptions,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let over = false;
  let asked = false;
  let next: Promise<IteratorResult<unknown, void>> | undefined;
  return new ReadableStream<Uint8Array>({
    start(controller) {
      const abandon = (): void => {
        // Whoever reads is told below.
        if (over || asked) return;
        over = true;
        next?.catch(() => {});
        onError(signal.reason);
        controller.error(signal.reason);
        source.return?.()?.catch(() => {});
      };
      signal.addEventListener("abort", () => setTimeout(abandon, LAST_WORDS_MS), { once: true });
    },
    async pull(controller) {
      const write = (text: string): void => controller.enqueue(encoder.encode(text));
      asked = true;
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
        over = true;
        write("data: [DONE]\n\n");
        controller.close();
      } catch (error) {
        // Nobody is told of the end that they made themselves.
        if (over) return;
        over = true;
        write(event(onError(error)));
        controller.close();
      } finally {
        asked = false;
      }
    },
    cancel() {
      over = true;
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
