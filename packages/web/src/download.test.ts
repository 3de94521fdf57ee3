import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { downloadModel, storedFiles } from "./download.ts";
import { parseManifest } from "./manifest.ts";
import type { ModelStorage } from "./storage.ts";

const CONTENT = Uint8Array.from({ length: 5000 }, (_, index) => (index * 31) % 251);
const BASE = new URL("https://models.test/tiny/");

function manifestOf(content: Uint8Array) {
  return parseManifest(JSON.stringify({ "a.bin": { bytes: content.length, sha256: createHash("sha256").update(content).digest("hex") } }));
}

function memoryStorage(initial: Readonly<Record<string, Uint8Array<ArrayBuffer>>> = {}): ModelStorage {
  const files = new Map(Object.entries(initial));
  return {
    read(name) {
      const bytes = files.get(name);
      return Promise.resolve(bytes ? new File([bytes], name) : null);
    },
    names: () => Promise.resolve([...files.keys()]),
    remove(name) {
      files.delete(name);
      return Promise.resolve();
    },
    open(name) {
      if (!files.has(name)) files.set(name, new Uint8Array());
      const bytes = (): Uint8Array<ArrayBuffer> => files.get(name) ?? new Uint8Array();
      return Promise.resolve({
        get size() {
          return bytes().length;
        },
        append: (more) => void files.set(name, Uint8Array.from([...bytes(), ...more])),
        clear: () => void files.set(name, new Uint8Array()),
        close() {},
      });
    },
  };
}

/** A server of one file that breaks each connection after `most` bytes. */
function server({ content = CONTENT, most = Infinity, ranges = true }) {
  const starts: number[] = [];
  const fetch = (_url: unknown, init?: RequestInit): Promise<Response> => {
    const range = new Headers(init?.headers).get("range");
    const start = range !== null && ranges ? Number(/\d+/.exec(range)?.[0]) : 0;
    starts.push(start);
    const part = content.slice(start, start + most);
    const body = new ReadableStream({
      pull(controller) {
        controller.enqueue(part);
        controller.close();
      },
    });
    const headers = { "content-range": `bytes ${start}-${content.length - 1}/${content.length}` };
    return Promise.resolve(new Response(body, start > 0 ? { status: 206, headers } : {}));
  };
  return { starts, fetch: fetch as typeof globalThis.fetch };
}

async function download(storage: ModelStorage, { fetch }: ReturnType<typeof server>, manifest = manifestOf(CONTENT)) {
  const [file] = await downloadModel({ base: BASE, manifest, storage, fetch, retryDelaysMs: [0] });
  return new Uint8Array((await file?.arrayBuffer()) ?? new ArrayBuffer());
}

test("downloadModel goes on where each broken connection ended", async () => {
  const origin = server({ most: 2000 });
  expect(await download(memoryStorage(), origin)).toEqual(CONTENT);
  expect(origin.starts).toEqual([0, 2000, 4000]);
});

test("downloadModel continues what an earlier visit left, and asks for nothing that is complete", async () => {
  const storage = memoryStorage({ "a.bin": CONTENT.slice(0, 3000) });
  const origin = server({});
  expect(await storedFiles(manifestOf(CONTENT), storage)).toBeNull();
  expect(await download(storage, origin)).toEqual(CONTENT);
  await download(storage, origin);
  expect(origin.starts).toEqual([3000]);
});

test("downloadModel fetches a corrupt file again", async () => {
  const corrupt = CONTENT.slice();
  corrupt[7] = 255;
  const whole = server({});
  expect(await download(memoryStorage({ "a.bin": corrupt }), whole)).toEqual(CONTENT);
  expect(whole.starts).toEqual([0]);
  const part = server({});
  expect(await download(memoryStorage({ "a.bin": corrupt.slice(0, 100) }), part)).toEqual(CONTENT);
  expect(part.starts).toEqual([100, 0]);
});

test("downloadModel starts over where the server knows no ranges", async () => {
  const origin = server({ ranges: false });
  expect(await download(memoryStorage({ "a.bin": CONTENT.slice(0, 3000) }), origin)).toEqual(CONTENT);
});

test("downloadModel takes a connection that falls silent for a broken one", async () => {
  const starts: string[] = [];
  /** The first says 2000 bytes and then nothing more, without an end. */
  const fetch = (_url: unknown, init?: RequestInit): Promise<Response> => {
    const range = new Headers(init?.headers).get("range");
    starts.push(range ?? "all");
    if (range !== null) {
      const headers = { "content-range": `bytes 2000-4999/${CONTENT.length}` };
      return Promise.resolve(new Response(CONTENT.slice(2000), { status: 206, headers }));
    }
    const body = new ReadableStream({
      start(controller) {
        controller.enqueue(CONTENT.slice(0, 2000));
        init?.signal?.addEventListener("abort", () => controller.error(new DOMException("aborted", "AbortError")));
      },
    });
    return Promise.resolve(new Response(body));
  };
  const [file] = await downloadModel({
    base: BASE,
    manifest: manifestOf(CONTENT),
    storage: memoryStorage(),
    fetch,
    retryDelaysMs: [0],
    silenceMs: 20,
  });
  expect(new Uint8Array((await file?.arrayBuffer()) ?? new ArrayBuffer())).toEqual(CONTENT);
  expect(starts).toEqual(["all", "bytes=2000-"]);
});

test("downloadModel refuses what has another digest or length than promised", async () => {
  const other = CONTENT.toReversed();
  await expect(download(memoryStorage(), server({ content: other }))).rejects.toThrow("SHA-256 is wrong");
  const longer = Uint8Array.from([...CONTENT, 1]);
  await expect(download(memoryStorage(), server({ content: longer }))).rejects.toThrow("more than its 5000 bytes");
});

test("downloadModel gives up where no byte comes any more, and keeps what it has", async () => {
  const storage = memoryStorage({ "a.bin": CONTENT.slice(0, 3000) });
  await expect(download(storage, server({ most: 0 }))).rejects.toThrow("at byte 3000 of 5000");
  expect((await storage.read("a.bin"))?.size).toBe(3000);
});

test.each([
  ["[]", "an object of files"],
  ["{", "not JSON"],
  ["{}", "the number of files is 0"],
  ['{"../a":{"bytes":1,"sha256":""}}', "a file's name"],
  ['{"a":{"bytes":-1,"sha256":""}}', "'a'.bytes is -1"],
  ['{"a":{"bytes":1,"sha256":"xyz"}}', "'a'.sha256"],
])("parseManifest refuses %s", (text, message) => {
  expect(() => parseManifest(text)).toThrow(message);
});
