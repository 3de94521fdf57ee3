import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

import { randomBytes } from "../test/build.ts";
import { DTYPE_BYTES, isDtype } from "./dtype.ts";
import { fileSource, writeSafetensorsFile } from "./file.ts";
import { openSafetensors } from "./reader.ts";
import { bytesSource } from "./source.ts";
import { layoutSafetensors, writeSafetensors, type WriteEntry } from "./writer.ts";

function* chunks(bytes: Uint8Array<ArrayBuffer>, size: number) {
  for (let at = 0; at < bytes.byteLength; at += size) yield bytes.slice(at, at + size);
}

const entry = (name: string, dtype: WriteEntry["dtype"], shape: readonly number[], bytes: Uint8Array<ArrayBuffer>): WriteEntry => ({
  name,
  dtype,
  shape,
  data: () => chunks(bytes, 3),
});

class Collector {
  readonly parts: Uint8Array[] = [];
  write(bytes: Uint8Array): void {
    this.parts.push(bytes);
  }
  bytes(): Uint8Array {
    return new Uint8Array(Buffer.concat(this.parts));
  }
}

describe("writeSafetensors()", () => {
  it("writes what openSafetensors() reads, for every dtype", async () => {
    const dtypes = Object.keys(DTYPE_BYTES).filter(isDtype);
    const data = dtypes.map((dtype, index) => randomBytes(3 * 5 * DTYPE_BYTES[dtype], index));
    const entries = dtypes.map((dtype, index) => entry(`t.${dtype}`, dtype, [3, 5], data[index] ?? new Uint8Array()));
    const sink = new Collector();
    const written = await writeSafetensors(sink, entries, { metadata: { format: "pt", naïve: "ü" } });
    expect(written).toBe(sink.bytes().byteLength);
    const file = await openSafetensors(bytesSource(sink.bytes()));
    expect(file.dataStart % 8).toBe(0);
    expect(Object.fromEntries(file.metadata)).toEqual({ format: "pt", naïve: "ü" });
    for (const [index, dtype] of dtypes.entries()) {
      expect(file.tensors.get(`t.${dtype}`)).toMatchObject({ dtype, shape: [3, 5] });
      expect(await file.readTensor(`t.${dtype}`)).toEqual(data[index]);
    }
  });

  it("keeps the declared order where that is aligned, and puts wide elements first where it is not", () => {
    const order = (...entries: readonly (readonly [string, WriteEntry["dtype"], number])[]) =>
      layoutSafetensors(entries.map(([name, dtype, length]) => ({ name, dtype, shape: [length] }))).entries.map(({ name }) => name);
    expect(order(["a", "U8", 4], ["b", "F32", 1], ["c", "U8", 1])).toEqual(["a", "b", "c"]);
    expect(order(["a", "U8", 3], ["b", "F32", 1], ["c", "BF16", 1], ["d", "F32", 1])).toEqual(["b", "d", "c", "a"]);
  });

  it("writes tensors with names that objects have, empty tensors, scalars, and no tensor at all", async () => {
    const sink = new Collector();
    await writeSafetensors(sink, [
      entry("__proto__", "U8", [2], Uint8Array.of(1, 2)),
      entry("e", "F32", [0, 7], new Uint8Array()),
      entry("s", "U8", [], Uint8Array.of(9)),
    ]);
    const file = await openSafetensors(bytesSource(sink.bytes()));
    expect(await file.readTensor("__proto__")).toEqual(Uint8Array.of(1, 2));
    expect(await file.readTensor("s")).toEqual(Uint8Array.of(9));
    const none = new Collector();
    await writeSafetensors(none, []);
    expect((await openSafetensors(bytesSource(none.bytes()))).tensors.size).toBe(0);
  });

  it("writes to a WritableStream, waits for it, and leaves it open", async () => {
    const parts: Uint8Array[] = [];
    let closed = false;
    const stream = new WritableStream<Uint8Array<ArrayBuffer>>({
      write: async (chunk) => {
        await new Promise((resolve) => setTimeout(resolve, 1));
        parts.push(chunk);
      },
      close: () => {
        closed = true;
      },
    });
    await writeSafetensors(stream, [entry("a", "U8", [10], randomBytes(10, 1))]);
    expect(Buffer.concat(parts).byteLength).toBe(layoutSafetensors([{ name: "a", dtype: "U8", shape: [10] }]).byteLength);
    expect(closed).toBe(false);
    await stream.close();
  });

  it.each([
    ["one byte short", 9, /gave 9 bytes, expected 10 for U8 \[10\]/],
    ["one byte long", 11, /gave at least 11 bytes, expected 10/],
    ["nothing", 0, /gave 0 bytes/],
  ])("refuses data that is %s", async (_, bytes, message) => {
    const writing = writeSafetensors(new Collector(), [entry("a", "U8", [10], randomBytes(bytes, 1))]);
    await expect(writing).rejects.toThrow(message);
    await expect(writing).rejects.toMatchObject({ code: "write-data" });
  });

  it.each<readonly [string, readonly { name: string; dtype: string; shape: readonly number[] }[], RegExp]>([
    [
      "a name twice",
      [
        { name: "a", dtype: "U8", shape: [] },
        { name: "a", dtype: "U8", shape: [] },
      ],
      /'a' is declared twice/,
    ],
    ["the reserved name", [{ name: "__metadata__", dtype: "U8", shape: [] }], /reserved/],
    ["a name that is not Unicode", [{ name: "\ud800", dtype: "U8", shape: [] }], /not Unicode/],
    ["an unknown dtype", [{ name: "a", dtype: "F4", shape: [] }], /'F4', expected one of/],
    ["a negative dimension", [{ name: "a", dtype: "U8", shape: [-1] }], /\[-1\]/],
    ["too many bytes", [{ name: "a", dtype: "U8", shape: [2 ** 30, 2 ** 30] }], /fewer than 2\^53/],
  ])("refuses %s before it writes anything", async (_, declared, message) => {
    const sink = new Collector();
    const writing = writeSafetensors(sink, declared.map((item) => ({ ...item, data: () => [] })) as unknown as WriteEntry[]);
    await expect(writing).rejects.toThrow(message);
    await expect(writing).rejects.toMatchObject({ code: "write-entry" });
    expect(sink.parts).toEqual([]);
  });

  it("stops between chunks when aborted", async () => {
    const abort = new AbortController();
    const sink = new Collector();
    const data = function* () {
      yield new Uint8Array(4);
      abort.abort(new Error("enough"));
      yield new Uint8Array(4);
    };
    await expect(writeSafetensors(sink, [{ name: "a", dtype: "U8", shape: [8], data }], { signal: abort.signal })).rejects.toThrow(
      "enough",
    );
    expect(sink.parts.length).toBe(2);
  });
});

describe("writeSafetensorsFile()", () => {
  let folder = "";
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "safetensors-"));
  });
  afterEach(() => rm(folder, { recursive: true }));

  it("replaces a file in one step and leaves nothing else behind", async () => {
    const path = join(folder, "m.safetensors");
    await writeFile(path, "old");
    const data = randomBytes(1000, 5);
    await writeSafetensorsFile(path, [entry("a", "F8_E4M3", [1000], data)]);
    expect(await readdir(folder)).toEqual(["m.safetensors"]);
    const file = await openSafetensors(await fileSource(path));
    expect(await file.readTensor("a")).toEqual(data);
    await file.close();
  });

  it("keeps the old file and removes its own when the data fails halfway", async () => {
    const path = join(folder, "m.safetensors");
    await writeFile(path, "old");
    const data = async function* () {
      yield new Uint8Array(4);
      await Promise.reject(new Error("source broke"));
    };
    await expect(writeSafetensorsFile(path, [{ name: "a", dtype: "U8", shape: [8], data }])).rejects.toThrow("source broke");
    expect(await readdir(folder)).toEqual(["m.safetensors"]);
    expect(await readFile(path, "utf8")).toBe("old");
  });

  it("names the place that cannot be written", async () => {
    const writing = writeSafetensorsFile(join(folder, "no", "m.safetensors"), []);
    await expect(writing).rejects.toMatchObject({ code: "write-failed", message: expect.stringContaining("ENOENT") as string });
  });
});
