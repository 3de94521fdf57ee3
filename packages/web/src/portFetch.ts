/** `fetch` over the worker's port. Bodies come as they are read, no faster. */
import type { Exchanges } from "./exchanges.ts";

/** Structurally, so that it may lie behind comlink. */
export interface Port {
  fetch(...given: Parameters<Exchanges["fetch"]>): ReturnType<Exchanges["fetch"]>;
  read(...given: Parameters<Exchanges["read"]>): ReturnType<Exchanges["read"]>;
  leave(...given: Parameters<Exchanges["leave"]>): ReturnType<Exchanges["leave"]>;
}

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
    let ended = (): void => {};
    const aborted = new Promise<never>((_, reject) => {
      const abort = (): void => {
        leave();
        reject(signal.reason as Error);
      };
      signal.addEventListener("abort", abort, { once: true });
      ended = () => signal.removeEventListener("abort", abort);
    });
    aborted.catch(() => {});
    try {
      const call = port.fetch(id, { method: request.method, path: pathname + search, headers: [...request.headers], body });
      const { status, headers } = await Promise.race([call, aborted, death]);
      const stream = new ReadableStream<Uint8Array<ArrayBuffer>>(
        {
          async pull(controller) {
            const bytes = await Promise.race([port.read(id), aborted, death]);
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
