import { describe, expect, it } from "vitest";

import { file } from "../test/build.ts";
import { readError } from "./error.ts";
import { openIndexed, parseIndex } from "./indexed.ts";
import { bytesSource } from "./source.ts";

const u8 = (begin: number, end: number) => ({ dtype: "U8", shape: [end - begin], data_offsets: [begin, end] });
const SHARDS: Readonly<Record<string, Uint8Array>> = {
  "m-1.safetensors": file({ a: u8(0, 4), b: u8(4, 6) }, 6),
  "m-2.safetensors": file({ c: u8(0, 3), d: u8(3, 4), e: u8(4, 5), f: u8(5, 6) }, 6),
};
const MAP = {
  a: "m-1.safetensors",
  b: "m-1.safetensors",
  c: "m-2.safetensors",
  d: "m-2.safetensors",
  e: "m-2.safetensors",
  f: "m-2.safetensors",
};

function open(map: Readonly<Record<string, unknown>>, shards = SHARDS, metadata: unknown = { total_size: 12 }) {
  const opened: string[] = [];
  let closed = 0;
  const index = bytesSource(new TextEncoder().encode(JSON.stringify({ metadata, weight_map: map })), "dir/model.safetensors.index.json");
  const opening = openIndexed(index, (name) => {
    const bytes = shards[name];
    if (bytes === undefined) {
      return Promise.reject(readError({ code: "not-found", file: name, actual: "does not exist", expected: "a file" }));
    }
    opened.push(name);
    const source = bytesSource(bytes, name);
    return Promise.resolve({ ...source, close: () => (closed++, source.close()) });
  });
  return { opening, opened, closed: () => closed };
}

describe("openIndexed()", () => {
  it("opens each shard once and reads every tensor from its own", async () => {
    const { opening, opened, closed } = open(MAP);
    const store = await opening;
    expect(opened).toEqual(["m-1.safetensors", "m-2.safetensors"]);
    expect([...store.tensors.keys()]).toEqual(["a", "b", "c", "d", "e", "f"]);
    expect(store.tensors.get("c")?.file).toBe("m-2.safetensors");
    expect(store.totalSize).toBe(12);
    expect(store.unindexed).toEqual([]);
    expect(await store.readTensor("b")).toEqual(SHARDS["m-1.safetensors"]?.slice(-2));
    const parts: Uint8Array[] = [];
    for await (const part of store.readSlices("c", { sliceBytes: 2 })) parts.push(part);
    expect(parts.map((part) => part.byteLength)).toEqual([2, 1]);
    await expect(store.readTensor("z")).rejects.toMatchObject({ code: "unknown-tensor" });
    await store.close();
    expect(closed()).toBe(2);
  });

  it("reports tensors that lie in a shard but not in the index", async () => {
    const store = await open({
      a: "m-1.safetensors",
      c: "m-2.safetensors",
      d: "m-2.safetensors",
      e: "m-2.safetensors",
      f: "m-2.safetensors",
    }).opening;
    expect(store.unindexed).toEqual([{ name: "b", shard: "m-1.safetensors" }]);
    await expect(store.readTensor("b")).rejects.toMatchObject({ code: "unknown-tensor" });
  });

  it("names a missing shard and the tensors that need it, and closes the others", async () => {
    const { opening, opened, closed } = open(MAP, { "m-1.safetensors": SHARDS["m-1.safetensors"] ?? new Uint8Array() });
    await expect(opening).rejects.toMatchObject({
      code: "missing-shard",
      message:
        "Cannot read 'dir/model.safetensors.index.json': shard 'm-2.safetensors' is missing, expected it beside the index, for 'c', 'd', 'e' and 1 more",
    });
    expect(closed()).toBe(opened.length);
  });

  it("names a tensor that its shard lacks, and closes all", async () => {
    const { opening, closed } = open({ ...MAP, z: "m-1.safetensors" });
    await expect(opening).rejects.toMatchObject({
      code: "missing-tensor",
      message: expect.stringMatching(/'m-1.safetensors': tensor 'z' is missing/) as string,
    });
    expect(closed()).toBe(2);
  });

  it("passes on what is wrong with a shard", async () => {
    const broken = { ...SHARDS, "m-2.safetensors": SHARDS["m-2.safetensors"]?.slice(0, -1) ?? new Uint8Array() };
    await expect(open(MAP, broken).opening).rejects.toMatchObject({ code: "truncated", file: "m-2.safetensors" });
  });
});

describe("parseIndex() refuses", () => {
  it.each(["../x.safetensors", "..", ".", "", "a/b.safetensors", "/etc/passwd", "a\\b", "C:x", "a\0b", "x".repeat(256), 7, null, ["x"]])(
    "the shard name %j",
    (shard) => {
      expect(() => parseIndex(JSON.stringify({ weight_map: { t: shard } }))).toThrow(expect.objectContaining({ code: "shard-name" }));
    },
  );

  it.each([
    ["text that is not JSON", "{", "index"],
    ["a list", "[]", "index"],
    ["no weight_map", "{}", "index"],
    ["an empty weight_map", '{"weight_map":{}}', "index"],
    ["a tensor listed twice", '{"weight_map":{"a":"x","a":"y"}}', "duplicate-name"],
  ])("%s", (_, text, code) => {
    expect(() => parseIndex(text)).toThrow(expect.objectContaining({ code, file: "model.safetensors.index.json" }));
  });

  it("more shards than the limit, and takes as many as the limit", () => {
    const index = (shards: number) =>
      JSON.stringify({ weight_map: Object.fromEntries(Array.from({ length: shards }, (_, i) => [`t${i}`, `s${i}`])) });
    expect(parseIndex(index(4096)).weightMap.size).toBe(4096);
    expect(() => parseIndex(index(4097))).toThrow(expect.objectContaining({ code: "index" }));
  });
});
