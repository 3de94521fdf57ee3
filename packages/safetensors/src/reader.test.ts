import { mkdtemp, readFile, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { randomBytes, rawFile } from "../test/build.ts";
import { fileSource } from "./file.ts";
import { openSafetensors } from "./reader.ts";
import { blobSource, bytesSource, type ByteSource } from "./source.ts";

const DATA = randomBytes(1000, 3);
const FILE = (() => {
  const file = rawFile(
    JSON.stringify({
      a: { dtype: "U8", shape: [8], data_offsets: [0, 8] },
      big: { dtype: "F8_E4M3", shape: [31, 32], data_offsets: [8, 1000] },
    }),
    1000,
  );
  file.set(DATA, file.length - 1000);
  return file;
})();

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "safetensors-"));
  await writeFile(join(folder, "x.safetensors"), FILE);
});
afterAll(() => rm(folder, { recursive: true }));

const sources: readonly (readonly [string, () => Promise<ByteSource>])[] = [
  ["bytesSource()", () => Promise.resolve(bytesSource(FILE, "x.safetensors"))],
  ["blobSource()", () => Promise.resolve(blobSource(new File([FILE], "x.safetensors")))],
  ["fileSource()", () => fileSource(join(folder, "x.safetensors"))],
];

async function collect(slices: AsyncIterable<Uint8Array>): Promise<Uint8Array[]> {
  const parts: Uint8Array[] = [];
  for await (const slice of slices) parts.push(slice);
  return parts;
}

describe.each(sources)("%s", (_, make) => {
  it("reads whole tensors and slices of them", async () => {
    const file = await openSafetensors(await make());
    expect(file.name).toMatch(/x\.safetensors$/);
    expect(await file.readTensor("a")).toEqual(DATA.slice(0, 8));
    for (const sliceBytes of [1, 7, 991, 992, 993]) {
      const parts = await collect(file.readSlices("big", { sliceBytes }));
      expect(parts.length).toBe(Math.ceil(992 / sliceBytes));
      expect(parts.slice(0, -1).every((part) => part.byteLength === sliceBytes)).toBe(true);
      expect(new Uint8Array(Buffer.concat(parts))).toEqual(DATA.slice(8));
    }
    expect(await collect(file.readSlices("big", { offset: 100, length: 5, sliceBytes: 4 }))).toEqual([
      DATA.slice(108, 112),
      DATA.slice(112, 113),
    ]);
    expect(await collect(file.readSlices("big", { offset: 992 }))).toEqual([]);
    await file.close();
  });

  it("reads parts of tensors, into memory that it is given", async () => {
    const file = await openSafetensors(await make());
    const into = new Uint8Array(600);
    expect(await file.readPart("big", { offset: 0, length: 992 })).toEqual(DATA.slice(8));
    expect(await file.readPart("big", { offset: 100, length: 5, into })).toEqual(DATA.slice(108, 113));
    const parts = await Promise.all(
      [0, 300].map((at) => file.readPart("big", { offset: at, length: 300, into: into.subarray(at, at + 300) })),
    );
    expect(new Uint8Array(Buffer.concat(parts))).toEqual(DATA.slice(8, 608));
    const outOfRange = { code: "out-of-range" };
    await expect(file.readPart("big", { offset: 992, length: 1 })).rejects.toMatchObject(outOfRange);
    await expect(file.readPart("big", { offset: -1, length: 1 })).rejects.toMatchObject(outOfRange);
    await expect(file.readPart("nope", { offset: 0, length: 1 })).rejects.toMatchObject({ code: "unknown-tensor" });
    await file.close();
  });

  it("refuses ranges outside the tensor, unknown tensors, and use after close()", async () => {
    const file = await openSafetensors(await make());
    const outOfRange = { code: "out-of-range" };
    expect(() => file.readSlices("big", { offset: 993 })).toThrow(expect.objectContaining(outOfRange));
    expect(() => file.readSlices("big", { offset: 1, length: 992 })).toThrow(expect.objectContaining(outOfRange));
    expect(() => file.readSlices("big", { sliceBytes: 0 })).toThrow(expect.objectContaining(outOfRange));
    expect(() => file.readSlices("big", { offset: -1 })).toThrow(expect.objectContaining(outOfRange));
    expect(() => file.readSlices("big", { offset: Number.NaN })).toThrow(expect.objectContaining(outOfRange));
    await expect(file.readTensor("nope")).rejects.toMatchObject({ code: "unknown-tensor" });
    await file.close();
    await file.close();
    await expect(file.readTensor("a")).rejects.toMatchObject({ code: "closed" });
  });

  it("refuses ranges outside the source", async () => {
    const source = await make();
    expect(await source.read(FILE.length, 0)).toEqual(new Uint8Array(0));
    for (const [offset, length] of [
      [FILE.length, 1],
      [0, FILE.length + 1],
      [-1, 1],
      [0, -1],
      [0.5, 1],
      [Number.MAX_SAFE_INTEGER, 2],
    ] as const) {
      await expect(source.read(offset, length)).rejects.toMatchObject({ code: "out-of-range" });
    }
    await source.close();
  });

  it("stops when aborted", async () => {
    const file = await openSafetensors(await make());
    const abort = new AbortController();
    const read: Uint8Array[] = [];
    const reading = (async () => {
      for await (const slice of file.readSlices("big", { sliceBytes: 10 }, abort.signal)) {
        read.push(slice);
        abort.abort(new Error("enough"));
      }
    })();
    await expect(reading).rejects.toThrow("enough");
    expect(read.length).toBe(1);
    await expect(file.readTensor("a", abort.signal)).rejects.toThrow("enough");
    await file.close();
  });
});

describe("readSlices()", () => {
  it("has at most two slices in flight and cancels the read ahead when the caller leaves", async () => {
    const inner = bytesSource(FILE);
    let reading = 0;
    let given = 0;
    let most = 0;
    const source: ByteSource = {
      ...inner,
      async read(offset, length, signal) {
        reading++;
        most = Math.max(most, reading);
        await new Promise((resolve) => setTimeout(resolve, 1));
        reading--;
        return await inner.read(offset, length, signal);
      },
    };
    const file = await openSafetensors(source);
    for await (const slice of file.readSlices("big", { sliceBytes: 16 })) {
      given += slice.byteLength;
      // The slice in hand and one on its way: never two on their way.
      expect(reading).toBeLessThanOrEqual(1);
      if (given >= 160) break;
    }
    expect(most).toBe(1);
    expect(reading).toBe(0);
  });

  it("passes on the failure of a read ahead, after the slices before it", async () => {
    const inner = bytesSource(FILE);
    let reads = 0;
    const source: ByteSource = {
      ...inner,
      read: (...range) => (++reads > 4 ? Promise.reject(new Error("disk died")) : inner.read(...range)),
    };
    const file = await openSafetensors(source);
    const parts: Uint8Array[] = [];
    const reading = (async () => {
      for await (const slice of file.readSlices("big", { sliceBytes: 16 })) parts.push(slice);
    })();
    await expect(reading).rejects.toThrow("disk died");
    expect(parts.length).toBe(2);
  });
});

describe("fileSource()", () => {
  it("says that a file does not exist", async () => {
    const path = join(folder, "none.safetensors");
    await expect(fileSource(path)).rejects.toMatchObject({
      code: "not-found",
      message: `Cannot read '${path}': does not exist, expected a file`,
    });
  });

  it("refuses a directory and follows a link", async () => {
    await expect(fileSource(folder)).rejects.toMatchObject({ code: "read-failed" });
    const link = join(folder, "link.safetensors");
    await symlink(join(folder, "x.safetensors"), link);
    const source = await fileSource(link);
    expect(source.size).toBe(FILE.length);
    await source.close();
  });

  it("notices a file that shrinks after opening", async () => {
    const path = join(folder, "shrinks.safetensors");
    await writeFile(path, await readFile(join(folder, "x.safetensors")));
    const file = await openSafetensors(await fileSource(path));
    await truncate(path, FILE.length - 10);
    await expect(file.readTensor("big")).rejects.toMatchObject({ code: "read-failed" });
    await file.close();
  });
});

describe("openSafetensors()", () => {
  it("closes the source when the header is bad", async () => {
    let closed = false;
    const source: ByteSource = { ...bytesSource(rawFile("{bad")), close: () => ((closed = true), Promise.resolve()) };
    await expect(openSafetensors(source)).rejects.toMatchObject({ code: "header-json" });
    expect(closed).toBe(true);
  });
});
