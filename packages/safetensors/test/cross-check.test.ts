/** The npm package `safetensors` as an independent reader: it must see in our files, and in published ones, what we see. */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SafeTensor } from "safetensors";
import { describe, expect, it } from "vitest";

import { fileSource, writeSafetensorsFile } from "../src/file.ts";
import { DTYPE_BYTES, isDtype, openIndexed, openSafetensors } from "../src/mod.ts";
import { random, randomBytes } from "./build.ts";

const TINY_MODEL = new URL("../../tiny-model/model/", import.meta.url).pathname;
const FIXTURES = new URL("../../model/test/fixtures/", import.meta.url).pathname;

async function compare(path: string): Promise<number> {
  // A copy of its own: the package reads the buffer behind the view from byte 0.
  const theirs = new SafeTensor(new Uint8Array(await readFile(path)));
  const ours = await openSafetensors(await fileSource(path));
  const names = [...theirs.metadata.keys()].filter((name) => name !== "__metadata__");
  expect([...ours.tensors.keys()].sort()).toEqual(names.sort());
  for (const [name, tensor] of ours.tensors) {
    const { dtype, shape, data_offsets: offsets } = theirs.metadata.get(name) ?? {};
    expect({ dtype: tensor.dtype, shape: [...tensor.shape], offsets: [tensor.begin, tensor.end] }).toEqual({ dtype, shape, offsets });
    expect(Buffer.compare(await ours.readTensor(name), theirs.getTensor(name))).toBe(0);
  }
  await ours.close();
  return names.length;
}

describe("an independent reader agrees", () => {
  it("on files that writeSafetensorsFile() wrote", async () => {
    const folder = await mkdtemp(join(tmpdir(), "safetensors-"));
    try {
      const next = random(7);
      const dtypes = Object.keys(DTYPE_BYTES).filter(isDtype);
      for (let round = 0; round < 5; round++) {
        const entries = Array.from({ length: 20 }, (_, index) => {
          const dtype = dtypes[Math.floor(next() * dtypes.length)] ?? "U8";
          const shape = Array.from({ length: Math.floor(next() * 4) }, () => Math.floor(next() * 9));
          const bytes = randomBytes(
            shape.reduce((product, dim) => product * dim, DTYPE_BYTES[dtype]),
            index,
          );
          return { name: `tensor.${index}`, dtype, shape, data: () => [bytes] };
        });
        const path = join(folder, "m.safetensors");
        // Without metadata: the package takes every entry for a tensor.
        await writeSafetensorsFile(path, entries);
        expect(await compare(path)).toBe(20);
      }
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it("on every golden file without metadata", async () => {
    for (const name of (await readdir(FIXTURES)).filter((file) => file.endsWith(".safetensors"))) {
      expect(await compare(join(FIXTURES, name))).toBeGreaterThan(0);
    }
  });

  it("on the shards of the tiny model", async () => {
    const store = await openIndexed(await fileSource(`${TINY_MODEL}model.safetensors.index.json`), (shard) =>
      fileSource(TINY_MODEL + shard),
    );
    expect(store.tensors.size).toBe(1313);
    expect([...store.tensors.values()].reduce((sum, tensor) => sum + tensor.byteLength, 0)).toBe(store.totalSize);
    expect(store.unindexed).toEqual([]);
    for (const [shard, file] of store.shards) {
      const path = TINY_MODEL + shard;
      const theirs = readNpm(new Uint8Array(await readFile(path)));
      for (const name of file.tensors.keys()) expect(Buffer.compare(await file.readTensor(name), theirs.getTensor(name))).toBe(0);
    }
    await store.close();
  });
});

/** The package trips over `__metadata__`, whose value has no offsets: give it the same file with those bytes blanked. */
function readNpm(file: Uint8Array<ArrayBuffer>): SafeTensor {
  const length = Number(new DataView(file.buffer).getBigUint64(0, true));
  const header = new TextDecoder().decode(file.subarray(8, 8 + length));
  const blanked = header.replace(/"__metadata__":\s*\{[^}]*\}\s*,/, (match) => " ".repeat(match.length));
  file.set(new TextEncoder().encode(blanked), 8);
  return new SafeTensor(file);
}
