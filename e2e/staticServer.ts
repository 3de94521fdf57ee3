/** Serves a folder as any web server would, ranges included; counts what it sends, and breaks connections when told to. */
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { type IncomingMessage, type Server, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
  ".json": "application/json",
  ".webmanifest": "application/manifest+json",
};

export class StaticServer {
  /** Bytes of bodies sent, by path. */
  readonly sent = new Map<string, number>();
  /** While set, answers with a path that ends so break, or hang, after as many bytes of the file. */
  cut: { readonly path: string; readonly after: number; readonly hangs?: boolean } | undefined;
  readonly #folder: string;
  #server: Server | undefined;
  #port = 0;

  constructor(folder: string) {
    this.#folder = folder;
  }

  get url(): string {
    return `http://localhost:${this.#port}/`;
  }

  /** On the port of before, if it was started before. */
  async start(): Promise<void> {
    const server = createServer((request, response) => {
      this.#answer(request, response).catch(() => response.destroy());
    });
    this.#server = server;
    await new Promise<void>((resolve) => server.listen(this.#port, "localhost", resolve));
    this.#port = (server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    server?.closeAllConnections();
    await new Promise((resolve) => (server ? server.close(resolve) : resolve(undefined)));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname } = new URL(request.url ?? "/", this.url);
    const file = path.join(this.#folder, pathname.endsWith("/") ? `${pathname}index.html` : pathname);
    const size = await stat(file).then(
      (found) => (found.isFile() ? found.size : undefined),
      () => undefined,
    );
    if (size === undefined || path.relative(this.#folder, file).startsWith("..")) {
      response.writeHead(404).end();
      return;
    }
    const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "") ?? [];
    const start = Number(from ?? 0);
    const end = Math.min(size, to === undefined || to === "" ? size : Number(to) + 1);
    const cut = this.cut !== undefined && pathname.endsWith(this.cut.path) ? this.cut.after : Infinity;
    if (cut <= start) {
      response.destroy();
      return;
    }
    response.writeHead(from === undefined ? 200 : 206, {
      "content-type": TYPES[path.extname(file)] ?? "application/octet-stream",
      "content-length": end - start,
      "accept-ranges": "bytes",
      ...(from !== undefined && { "content-range": `bytes ${start}-${end - 1}/${size}` }),
    });
    if (request.method === "HEAD") {
      response.end();
      return;
    }
    for await (const chunk of createReadStream(file, { start, end: Math.min(end, cut) - 1 })) {
      const bytes = chunk as Buffer;
      this.sent.set(pathname, (this.sent.get(pathname) ?? 0) + bytes.length);
      if (!response.write(bytes)) await new Promise((resolve) => response.once("drain", resolve));
    }
    if (cut < end && this.cut?.hangs === true) return;
    if (cut < end) response.destroy();
    else response.end();
  }
}
