import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDirectory } from "@shoal/checkpoint/directory";
import { bytesSource, openSafetensors } from "@shoal/safetensors";
import { tinyModelUrl } from "@shoal/tiny-model";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { LogitsRows } from "./gpu/protocol.ts";
import { logitsTensors, openLogitsFile } from "./logitsFile.ts";

const checkpoint = await openDirectory(fileURLToPath(tinyModelUrl));
const { config } = checkpoint;
await checkpoint.close();
const { vocabSize, hiddenSize, nLayers, nDenseLayers, nActivatedExperts } = config;
const shape = { tokens: 5, hidden: true, routing: true, mtp: true };

/** Rows whose every number says where it belongs. */
function rowsOf(start: number, tokens: number, drafts: number): LogitsRows {
  const filled = (rows: number, columns: number, base: number): Float32Array<ArrayBuffer> =>
    Float32Array.from({ length: rows * columns }, (_, i) => base + start + Math.floor(i / columns));
  return {
    start,
    tokens,
    logits: filled(tokens, vocabSize, 0),
    layerHidden: Array.from({ length: nLayers }, (_, layer) => filled(tokens, hiddenSize, 100 * (layer + 1))),
    routing: Array.from({ length: nLayers - nDenseLayers }, (_, i) => ({
      layer: nDenseLayers + i,
      indices: Int32Array.from({ length: tokens * nActivatedExperts }, (_, at) => start + Math.floor(at / nActivatedExperts)),
      weights: filled(tokens, nActivatedExperts, 1000),
    })),
    mtpLogits: filled(drafts, vocabSize, 5000),
  };
}

describe("openLogitsFile()", () => {
  let directory = "";
  beforeEach(async () => (directory = await mkdtemp(join(tmpdir(), "shoal-"))));
  afterEach(() => rm(directory, { recursive: true }));

  it("puts every step's rows in their places", async () => {
    const path = join(directory, "out.safetensors");
    const file = await openLogitsFile(path, config, shape, { ids: "1,2,3,4,5" });
    await file.write(rowsOf(0, 3, 3));
    await file.write(rowsOf(3, 2, 1));
    await file.finish();
    const store = await openSafetensors(bytesSource(new Uint8Array(await readFile(path))));
    expect([...store.tensors.keys()].sort()).toEqual(
      logitsTensors(config, shape)
        .map(({ name }) => name)
        .sort(),
    );
    expect(store.metadata.get("ids")).toBe("1,2,3,4,5");
    const column = async (name: string, columns: number): Promise<number[]> => {
      const all = new Float32Array((await store.readTensor(name)).buffer);
      return Array.from({ length: all.length / columns }, (_, row) => all[row * columns + columns - 1] ?? Number.NaN);
    };
    expect(await column("logits", vocabSize)).toEqual([0, 1, 2, 3, 4]);
    expect(await column("mtp_logits", vocabSize)).toEqual([5000, 5001, 5002, 5003]);
    expect(await column("hidden.5", hiddenSize)).toEqual([600, 601, 602, 603, 604]);
    expect(await column("routing.3.weights", nActivatedExperts)).toEqual([1000, 1001, 1002, 1003, 1004]);
    const indices = new Int32Array((await store.readTensor("routing.1.indices")).buffer);
    expect(Array.from(indices.filter((_, i) => i % nActivatedExperts === 0))).toEqual([0, 1, 2, 3, 4]);
    expect(store.tensors.get("routing.1.indices")).toMatchObject({ dtype: "I32", shape: [5, nActivatedExperts] });
  });

  it("leaves nothing behind when it is discarded", async () => {
    const file = await openLogitsFile(join(directory, "out.safetensors"), config, shape, {});
    await file.write(rowsOf(0, 3, 3));
    await file.discard();
    expect(await readdir(directory)).toEqual([]);
  });

  it("names the path that cannot be written", async () => {
    const path = join(directory, "no", "such", "folder");
    await expect(openLogitsFile(path, config, shape, {})).rejects.toThrow(`Cannot write '${path}': it failed (ENOENT)`);
  });
});
