/** `fetch` over the worker's port. Bodies come as they are read, no faster. */
import type { Remote } from "comlink";
import type { EngineHost } from "./host.ts";

type Port = Pick<Remote<EngineHost>, "fetch" | "read" | "leave">;

/** @param death rejects when nothing will be answered any more */
export function portFetch(port: Port, death: Promise<never>): typeof globalThis.fetch {
  let next = 0;
  return async (input, init) => {
    const request = new Request(input, init);
    const { signal } = request;
    signal.throwIfAborted();
    const body = request.body === null && init?.body === undefined ? undefined : await request.text();
    const id = next++;
    const { pathname, search } = new URL(request.url);
    const leave = (): void => void port.leave(id).catch(() => {});
    const aborted = Promise.withResolvers<never>();
    aborted.promise.catch(() => {});
    const abort = (): void => {
      leave();
      aborted.reject(signal.reason);
    };
    signal.addEventListener("abort", abort, { once: true });
    const ended = (): void => signal.removeEventListener("abort", abort);
    try {
      const call = port.fetch(id, { method: request.method, path: pathname + search, headers: [...request.headers], body });
      const { status, headers } = await Promise.race([call, aborted.promise, death]);
      const stream = new ReadableStream<Uint8Array<ArrayBuffer>>(
        {
          async pull(controller) {
            const bytes = await Promise.race([port.read(id), aborted.promise, death]);
            if (bytes) controller.enqueue(bytes);
            else {
              ended();
              controller.close();
            }
          },
          cancel() {
            ended();
            leave();
          },
        },
        // What nobody has asked for stays in the worker, which then knows how far the reader is.
        { highWaterMark: 0 },
      );
      const empty = status === 204 || status === 304 || request.method === "HEAD";
      return new Response(empty ? null : stream, { status, headers: headers.map(([name, value]): [string, string] => [name, value]) });
    } catch (error) {
      ended();
      throw error;
    }
  };
}
