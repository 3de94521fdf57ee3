import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";

import { randomBytes, rawFile } from "../test/build.ts";
import { parseContentRange } from "./http-attempt.ts";
import { httpBytes, httpSource, type HttpOptions } from "./http.ts";
import { openSafetensors } from "./reader.ts";

const DATA = randomBytes(100_000, 11);
const FILE = (() => {
  const file = rawFile(JSON.stringify({ a: { dtype: "U8", shape: [100_000], data_offsets: [0, 100_000] } }), 100_000);
  file.set(DATA, file.length - DATA.length);
  return file;
})();
const FAST: HttpOptions = { backoffMs: 1, timeoutMs: 2000 };

type Handler = (request: IncomingMessage, response: ServerResponse, range: { first: number; last: number } | null, count: number) => void;

const servers: Server[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

async function serve(handler: Handler): Promise<{ url: string; ranges: string[] }> {
  const ranges: string[] = [];
  const server = createServer((request, response) => {
    ranges.push(request.headers.range ?? "");
    const match = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
    handler(request, response, match === null ? null : { first: Number(match[1]), last: Number(match[2]) }, ranges.length);
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/dir/x.safetensors?token=secret`, ranges };
}

function partial(response: ServerResponse, range: { first: number; last: number } | null, headers: Record<string, string> = {}): Buffer {
  const { first, last } = range ?? { first: 0, last: FILE.length - 1 };
  const end = Math.min(last, FILE.length - 1);
  const all = {
    "content-range": `bytes ${first}-${end}/${FILE.length}`,
    "content-length": String(end - first + 1),
    etag: '"v1"',
    ...headers,
  };
  response.writeHead(206, Object.fromEntries(Object.entries(all).filter(([, value]) => value !== "")));
  return Buffer.from(FILE.subarray(first, end + 1));
}

const good: Handler = (_, response, range) => void response.end(partial(response, range));

async function code(reading: Promise<unknown>): Promise<unknown> {
  return await reading.then(
    () => "ok",
    (error: unknown) => (error instanceof Error && "code" in error ? error.code : error),
  );
}

describe("httpSource()", () => {
  it("reads into memory that it is given, and refuses too little", async () => {
    const { url } = await serve(good);
    const file = await openSafetensors(await httpSource(url, FAST));
    const into = new Uint8Array(64);
    const part = await file.readPart("a", { offset: 10, length: 20, into });
    expect(part).toEqual(DATA.slice(10, 30));
    expect(part.buffer).toBe(into.buffer);
    await expect(file.readPart("a", { offset: 0, length: 65, into })).rejects.toMatchObject({ code: "out-of-range" });
  });

  it("reads exactly the ranges asked for, and never the whole file", async () => {
    const { url, ranges } = await serve(good);
    const file = await openSafetensors(await httpSource(url, FAST));
    expect(file.name).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/dir\/x\.safetensors$/);
    const parts: Uint8Array[] = [];
    for await (const part of file.readSlices("a", { sliceBytes: 1000, offset: 500, length: 2500 })) parts.push(part);
    expect(new Uint8Array(Buffer.concat(parts))).toEqual(DATA.slice(500, 3000));
    const at = file.dataStart + 500;
    expect(ranges).toEqual([
      "bytes=0-0",
      "bytes=0-7",
      `bytes=8-${file.dataStart - 1}`,
      `bytes=${at}-${at + 999}`,
      `bytes=${at + 1000}-${at + 1999}`,
      `bytes=${at + 2000}-${at + 2499}`,
    ]);
  });

  it("sends the caller's headers and, with a strong ETag, If-Range", async () => {
    const seen: unknown[] = [];
    const { url } = await serve((request, response, range) => {
      seen.push(request.headers.authorization, request.headers["if-range"]);
      response.end(partial(response, range));
    });
    const source = await httpSource(url, { ...FAST, headers: { authorization: "Bearer x" } });
    await source.read(0, 8);
    expect(seen).toEqual(["Bearer x", undefined, "Bearer x", '"v1"']);
  });

  it("takes up a broken body where it broke", async () => {
    const { url, ranges } = await serve((_, response, range, count) => {
      const body = partial(response, range);
      if (count === 2 || count === 3) response.write(body.subarray(0, 10_000), () => response.destroy());
      else response.end(body);
    });
    const source = await httpSource(url, FAST);
    expect(await source.read(100, 50_000)).toEqual(FILE.slice(100, 50_100));
    expect(ranges).toEqual(["bytes=0-0", "bytes=100-50099", "bytes=10100-50099", "bytes=20100-50099"]);
  });

  it("gives up on a body that breaks every time", async () => {
    const { url, ranges } = await serve((_, response, range, count) => {
      const body = partial(response, range);
      if (count === 1) response.end(body);
      else response.write(body.subarray(0, 10), () => response.destroy());
    });
    const source = await httpSource(url, { ...FAST, retries: 3 });
    await expect(source.read(0, 1000)).rejects.toMatchObject({ code: "read-failed", expected: "an answer within 4 attempts" });
    expect(ranges.length).toBe(5);
  });

  it.each([500, 502, 503, 429])("tries again after status %i and succeeds", async (status) => {
    const { url, ranges } = await serve((_, response, range, count) => {
      if (count % 2 === 1) response.writeHead(status, { "retry-after": "0" }).end("later");
      else response.end(partial(response, range));
    });
    const source = await httpSource(url, FAST);
    expect(await source.read(5, 5)).toEqual(FILE.slice(5, 10));
    expect(ranges.length).toBe(4);
  });

  it("says which status it got when that never changes", async () => {
    const { url, ranges } = await serve((_, response) => void response.writeHead(503).end());
    await expect(httpSource(url, { ...FAST, retries: 2 })).rejects.toMatchObject({
      code: "http-status",
      message: expect.stringContaining("status 503") as string,
    });
    expect(ranges.length).toBe(3);
  });

  it.each([
    [404, "not-found"],
    [410, "not-found"],
    [401, "http-status"],
    [403, "http-status"],
    [416, "http-status"],
    [204, "http-status"],
  ])("does not try again after status %i: %s", async (status, expected) => {
    const { url, ranges } = await serve((_, response) => void response.writeHead(status).end());
    expect(await code(httpSource(url, FAST))).toBe(expected);
    expect(ranges.length).toBe(1);
  });

  it("cancels the body of a server that ignores Range", async () => {
    let sent = 0;
    let onClose = () => {};
    const closed = new Promise<void>((resolve) => (onClose = resolve));
    const { url } = await serve((_, response) => {
      response.writeHead(200, { "content-length": String(2 ** 40), etag: '"v1"' });
      const chunk = Buffer.alloc(65536);
      const more = () => {
        while (!response.destroyed && response.write(chunk)) sent += chunk.length;
      };
      response.on("drain", more).on("close", onClose);
      more();
    });
    await expect(httpSource(url, FAST)).rejects.toMatchObject({ code: "range-unsupported" });
    await closed;
    expect(sent).toBeLessThan(64 * 2 ** 20);
  });

  it.each([
    ["another range", "bytes 1-8/100132"],
    ["a shorter range", "bytes 0-6/100132"],
    ["a longer range", "bytes 0-8/100132"],
    ["no numbers", "bytes */100132"],
    ["another unit", "items 0-7/100132"],
    ["a last byte beyond the total", "bytes 0-7/7"],
    ["numbers beyond 2^53", "bytes 0-7/99999999999999999999"],
  ])("refuses a Content-Range with %s", async (_, header) => {
    const { url } = await serve((_, response, range, count) => {
      response.end(partial(response, range, count === 1 ? {} : { "content-range": header }));
    });
    const source = await httpSource(url, FAST);
    expect(await code(source.read(0, 8))).toBe("content-range");
  });

  it("refuses an answer without Content-Range", async () => {
    const { url } = await serve((_, response) => void response.writeHead(206).end("x"));
    await expect(httpSource(url, FAST)).rejects.toMatchObject({
      code: "content-range",
      expected: expect.stringContaining("expose") as string,
    });
  });

  it("takes the size from a server that answers the first byte's range with the whole file", async () => {
    const { url } = await serve((_, response, range) => response.end(partial(response, range?.last === 0 ? null : range)));
    const source = await httpSource(url, FAST);
    expect(source.size).toBe(FILE.length);
    expect(await source.read(1, 8)).toEqual(Uint8Array.from(FILE.subarray(1, 9)));
  });

  it("refuses a body longer than announced", async () => {
    const { url } = await serve((_, response, range, count) => {
      const body = partial(response, range, count === 1 ? {} : { "content-length": "16" });
      response.end(count === 1 ? body : FILE.subarray(0, 16));
    });
    const source = await httpSource(url, FAST);
    expect(await code(source.read(0, 8))).toBe("content-range");
  });

  it.each<readonly [string, (count: number) => Record<string, string>]>([
    ["its ETag", (count) => ({ etag: `"v${count}"` })],
    ["a weak ETag", (count) => ({ etag: `W/"v${count}"` })],
    ["its date", (count) => ({ etag: "", "last-modified": `Mon, 0${count} Jan 2024 00:00:00 GMT` })],
    ["its size", (count) => (count === 1 ? {} : { "content-range": `bytes 0-7/${FILE.length + 1}` })],
  ])("notices a file that changes %s", async (_, headers) => {
    const { url } = await serve((_, response, range, count) => void response.end(partial(response, range, headers(count))));
    const source = await httpSource(url, FAST);
    expect(await code(source.read(0, 8))).toBe("changed");
  });

  it("calls a file changed when the server answers If-Range with all of the new one", async () => {
    const { url } = await serve((_, response, range, count) => {
      if (count === 1) response.end(partial(response, range));
      else response.writeHead(200, { etag: '"v2"' }).end(FILE);
    });
    expect(await code((await httpSource(url, FAST)).read(0, 8))).toBe("changed");
  });

  it("calls a file changed when a range that was within it no longer is", async () => {
    const { url } = await serve((_, response, range, count) => {
      if (count === 1) response.end(partial(response, range));
      else response.writeHead(416, { "content-range": "bytes */4" }).end();
    });
    expect(await code((await httpSource(url, FAST)).read(0, 8))).toBe("changed");
  });

  it("opens an empty file", async () => {
    const { url } = await serve((_, response) => void response.writeHead(416, { "content-range": "bytes */0" }).end());
    const source = await httpSource(url, FAST);
    expect(source.size).toBe(0);
    await expect(openSafetensors(source)).rejects.toMatchObject({ code: "too-short" });
  });

  it("times out on a server that says nothing, and on one that stops in the middle", async () => {
    const silent = await serve(() => {});
    await expect(httpSource(silent.url, { retries: 1, backoffMs: 1, timeoutMs: 50 })).rejects.toMatchObject({ code: "timeout" });
    expect(silent.ranges.length).toBe(2);
    const stalls = await serve((_, response, range, count) => {
      const body = partial(response, range);
      if (count === 1) response.end(body);
      else response.write(body.subarray(0, 100));
    });
    const source = await httpSource(stalls.url, { retries: 1, backoffMs: 1, timeoutMs: 200 });
    await expect(source.read(0, 1000)).rejects.toMatchObject({ code: "timeout" });
    expect(stalls.ranges).toEqual(["bytes=0-0", "bytes=0-999", "bytes=100-999"]);
  });

  it("stops at once when aborted: before, during the answer, and while it waits to try again", async () => {
    const before = AbortSignal.abort(new Error("enough"));
    const { url, ranges } = await serve((_, response, range, count) => {
      const body = partial(response, range);
      if (count === 1) response.end(body);
      else response.write(body.subarray(0, 100));
    });
    await expect(httpSource(url, FAST, before)).rejects.toThrow("enough");
    expect(ranges).toEqual([]);
    const source = await httpSource(url, FAST);
    const during = new AbortController();
    setTimeout(() => during.abort(new Error("enough")), 20);
    await expect(source.read(0, 1000, during.signal)).rejects.toThrow("enough");

    const failing = await serve((_, response) => void response.writeHead(503, { "retry-after": "1000" }).end());
    const waiting = new AbortController();
    setTimeout(() => waiting.abort(new Error("enough")), 50);
    await expect(httpSource(failing.url, FAST, waiting.signal)).rejects.toThrow("enough");
    expect(failing.ranges.length).toBe(1);
  });

  it("says that nobody listens", async () => {
    const { url } = await serve(good);
    servers.splice(0).forEach((server) => server.close());
    await expect(httpSource(url, { ...FAST, retries: 1 })).rejects.toMatchObject({
      code: "read-failed",
      message: expect.stringContaining("ECONNREFUSED") as string,
    });
  });
});

describe("httpBytes()", () => {
  it("reads a whole file up to the limit and no more", async () => {
    const { url, ranges } = await serve((_, response) => void response.end(FILE));
    expect(await httpBytes(url, FILE.length, FAST)).toEqual(FILE);
    expect(await code(httpBytes(url, FILE.length - 1, FAST))).toBe("out-of-range");
    expect(ranges).toEqual(["", ""]);
  });

  it("tries again when the body breaks off", async () => {
    const { url } = await serve((_, response, _range, count) => {
      response.writeHead(200, { "content-length": String(FILE.length) });
      if (count === 1) response.write(FILE.subarray(0, 10), () => response.destroy());
      else response.end(FILE);
    });
    expect(await httpBytes(url, FILE.length, FAST)).toEqual(FILE);
  });

  it("takes a web page for a missing file, as httpSource() does", async () => {
    const { url } = await serve((_, response) => void response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html>"));
    expect(await code(httpBytes(url, 1000, FAST))).toBe("not-found");
    expect(await code(httpSource(url, FAST))).toBe("not-found");
  });
});

describe("parseContentRange()", () => {
  it("reads a range with and without a total", () => {
    expect(parseContentRange("bytes 0-7/100")).toEqual({ first: 0, last: 7, total: 100 });
    expect(parseContentRange("bytes 0-7/*")).toEqual({ first: 0, last: 7, total: null });
    expect(parseContentRange("bytes 8-7/100")).toBeNull();
  });
});
