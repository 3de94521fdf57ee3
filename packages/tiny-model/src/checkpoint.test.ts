import { createHash } from "node:crypto";
import { readFile, readdir } from "node:fs/promises";
import { expect, test } from "vitest";
import { tinyModelManifest, tinyModelUrl } from "./mod.ts";

test("tinyModelManifest lists exactly the files that are shipped", async () => {
  const names = (await readdir(tinyModelUrl)).filter((name) => name !== "manifest.json");
  expect(Object.keys(tinyModelManifest).toSorted()).toEqual(names.toSorted());
});

test.each(Object.entries(tinyModelManifest))("%s has the size and digest of the manifest", async (name, expected) => {
  const bytes = await readFile(new URL(name, tinyModelUrl));
  expect(bytes.byteLength).toBe(expected.bytes);
  expect(createHash("sha256").update(bytes).digest("hex")).toBe(expected.sha256);
});

test("the weight index names only shipped shards", async () => {
  const index = JSON.parse(await readFile(new URL("model.safetensors.index.json", tinyModelUrl), "utf8")) as {
    weight_map: Record<string, string>;
  };
  for (const shard of new Set(Object.values(index.weight_map))) expect(tinyModelManifest).toHaveProperty([shard]);
});
