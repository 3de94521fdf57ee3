/** The worker's side of `portFetch`: answers whose bodies are read piece by piece, each under a number of the caller's. */
import type { PortRequest, PortResponse } from "./protocol.ts";

interface Exchange {
  readonly controller: AbortController;
  reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>> | undefined;
}

export class Exchanges {
  readonly #answer: (request: Request) => Promise<Response>;
  readonly #open = new Map<number, Exchange>();

  constructor(answer: (request: Request) => Promise<Response>) {
    this.#answer = answer;
  }

  async fetch(id: number, { method, path, headers, body }: PortRequest): Promise<PortResponse> {
    const exchange: Exchange = { controller: new AbortController(), reader: undefined };
    this.#open.set(id, exchange);
    try {
      const request = new Request(new URL(path, "http://engine.invalid/"), {
        method,
        headers: headers.map(([name, value]): [string, string] => [name, value]),
        signal: exchange.controller.signal,
        ...(body !== undefined && { body }),
      });
      const response = await this.#answer(request);
      exchange.reader = response.body?.getReader();
      // It may have been left meanwhile.
      if (exchange.controller.signal.aborted) await exchange.reader?.cancel().catch(() => {});
      if (!exchange.reader) this.#open.delete(id);
      return { status: response.status, headers: [...response.headers] };
    } catch (error) {
      this.#open.delete(id);
      throw error;
    }
  }

  /** Null at the end of the body. */
  async read(id: number): Promise<Uint8Array<ArrayBuffer> | null> {
    const result = await this.#open.get(id)?.reader?.read();
    if (result?.value) return new Uint8Array(result.value);
    this.#open.delete(id);
    return null;
  }

  /** Nobody wants the rest of it. */
  async leave(id: number): Promise<void> {
    const exchange = this.#open.get(id);
    this.#open.delete(id);
    exchange?.controller.abort();
    await exchange?.reader?.cancel().catch(() => {});
  }

  /** Answers that are still being read. */
  get size(): number {
    return this.#open.size;
  }
}
