import { type CheckpointFiles, openCheckpoint } from "@shoal/checkpoint";
import { directoryFiles } from "@shoal/checkpoint/directory";
import { tinyModelUrl } from "@shoal/tiny-model";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { type ChunkSource, ChunkedFiles, type ChunkStore, filesSource } from "../src/weights/chunkedFiles.ts";
import { ChunkClient, serveChunks } from "../src/weights/exchange.ts";
import { makeManifest, parseManifest } from "../src/weights/manifest.ts";
import { neededChunks } from "../src/weights/needed.ts";
import { linkPair } from "./linkContract.ts";
import { memoryLanes } from "../src/link/memoryLane.ts";

const files: CheckpointFiles = directoryFiles(fileURLToPath(tinyModelUrl));
const names = (await files.list())?.filter((name) => name !== "manifest.json") ?? [];
const made = makeManifest("tiny", files, names);

function memoryStore(): ChunkStore & { readonly chunks: Map<string, Uint8Array<ArrayBuffer>> } {
  const chunks = new Map<string, Uint8Array<ArrayBuffer>>();
  return {
    chunks,
    get: async (file, index) => chunks.get(`${file}#${index}`),
    put: async (file, index, bytes) => void chunks.set(`${file}#${index}`, bytes),
  };
}

describe("manifests", () => {
  test("a manifest is the same each time, and read back by its digest", async () => {
    const { text, digest, manifest } = await made;
    expect((await makeManifest("tiny", files, names)).digest).toBe(digest);
    expect(parseManifest(text, digest).manifest).toEqual(manifest);
    expect(() => parseManifest(`${text} `, digest)).toThrowError(expect.objectContaining({ code: "bad-chunk" }));
  });

  test("one that does not add up is refused by name", async () => {
    const { manifest } = await made;
    const bad = [
      { ...manifest, version: 2 },
      { ...manifest, files: {} },
      { ...manifest, files: { "../x": { bytes: 0, chunks: [] } } },
      { ...manifest, files: { x: { bytes: 10, chunks: [] } } },
      { ...manifest, chunkBytes: 1 },
    ];
    for (const one of bad) expect(() => parseManifest(JSON.stringify(one))).toThrowError(expect.objectContaining({ code: "malformed" }));
  });
});

describe("weights by chunks", () => {
  test("a peer reads only what it will hold", async () => {
    const { manifest } = await made;
    let read = 0;
    const all = new ChunkedFiles({
      manifest,
      sources: () => [filesSource(files)],
      store: memoryStore(),
      onBytes: (bytes) => (read += bytes),
    });
    const checkpoint = await openCheckpoint(all);
    const headers = read;
    expect(headers).toBeLessThan(2_000_000);
    const ranges = [
      { begin: 0, end: 2 },
      { begin: 2, end: 4 },
      { begin: 4, end: 6 },
    ];
    const needs = ranges.map((range) => neededChunks(checkpoint, manifest, range).length * manifest.chunkBytes);
    for (const bytes of needs) expect(bytes).toBeLessThan(14_000_000);
    for (const { file, index } of neededChunks(checkpoint, manifest, ranges[1] ?? { begin: 0, end: 0 })) await all.chunk(file, index);
    expect(read - headers).toBeLessThanOrEqual(needs[1] ?? 0);
    // What was prefetched is all that loading reads.
    const before = read;
    for (const name of checkpoint.tensors.tensors.keys())
      if (/^model\.layers\.[23]\./.test(name)) await checkpoint.tensors.readTensor(name);
    expect(read).toBe(before);
  });

  test("bytes that are not the manifest's are never used: the next source is asked, and the liar named", async () => {
    const { manifest } = await made;
    const honest = filesSource(files);
    const liar: ChunkSource = {
      name: "liar",
      read: async (...args) => {
        const bytes = await honest.read(...args);
        if (bytes) bytes[0] = (bytes[0] ?? 0) ^ 1;
        return bytes;
      },
    };
    const short: ChunkSource = { name: "short", read: async (...args) => (await honest.read(...args))?.slice(1) };
    const bad: string[] = [];
    const store = memoryStore();
    const chunked = new ChunkedFiles({ manifest, store, sources: () => [liar, short, honest], onBadChunk: (source) => bad.push(source) });
    const text = new TextDecoder().decode((await chunked.read("config.json", 10_000)) ?? new Uint8Array());
    expect(JSON.parse(text)).toMatchObject({ num_hidden_layers: 6 });
    expect(bad).toEqual(["liar", "short"]);
    // Nor are bytes of the own disk that have changed.
    for (const bytes of store.chunks.values()) bytes.fill(0);
    expect(new TextDecoder().decode((await chunked.read("config.json", 10_000)) ?? new Uint8Array())).toBe(text);
    const none = new ChunkedFiles({ manifest, sources: () => [liar] });
    await expect(none.read("config.json", 10_000)).rejects.toMatchObject({ code: "bad-chunk" });
  });

  test("chunks and the manifest come over a link from another peer, and what was fetched is not fetched again", async () => {
    const { manifest, text, digest } = await made;
    const [near, far] = await linkPair(() => Promise.resolve(memoryLanes()), 2);
    const own = new ChunkedFiles({ manifest, sources: () => [filesSource(files)] });
    serveChunks(far, () => ({ manifestText: text, chunk: (file, index) => own.chunk(file, index) }));
    const client = new ChunkClient(near);
    expect(parseManifest(await client.manifest(), digest).digest).toBe(digest);
    const store = memoryStore();
    const fetched = new ChunkedFiles({ manifest, store, sources: () => [client] });
    const expected = await own.read("tokenizer.json", 2 ** 24);
    expect(Buffer.compare((await fetched.read("tokenizer.json", 2 ** 24)) ?? new Uint8Array(), expected ?? new Uint8Array())).toBe(0);
    near.close();
    await far.closed;
    const again = new ChunkedFiles({ manifest, store, sources: () => [client] });
    expect(Buffer.compare((await again.read("tokenizer.json", 2 ** 24)) ?? new Uint8Array(), expected ?? new Uint8Array())).toBe(0);
    await expect(again.read("config.json", 10_000)).rejects.toMatchObject({ code: "bad-chunk" });
  });

  test("requests that are none, or too many at once, end the link", async () => {
    for (const enemy of [
      ["nonsense"],
      ['{"file":"../../etc/passwd","index":-1}'],
      Array.from({ length: 50 }, () => '{"file":"slow","index":0}'),
      ["x".repeat(1000)],
    ]) {
      const [near, far] = await linkPair(() => Promise.resolve(memoryLanes()), 1);
      serveChunks(far, () => ({ manifestText: "{}", chunk: () => new Promise(() => {}) }));
      for (const message of enemy) void near.send(new TextEncoder().encode(message)).catch(() => {});
      await near.closed;
    }
  });
});
