import { cpSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openSafetensors, type TensorInfo } from "@shoal/safetensors";
import { fileSource, writeSafetensorsFile } from "@shoal/safetensors/file";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

import { FIXTURES, TINY_MODEL } from "../test/fixtures.ts";
import { toDemoName } from "./demo-names.ts";
import { openDirectory, openLocation } from "./directory.ts";
import { hubBaseUrl, isHubId } from "./files.ts";
import { openCheckpoint } from "./open.ts";
import { parseConfig } from "./parse-config.ts";
import { summarize } from "./summarize.ts";
import { validateCheckpoint } from "./validate.ts";

let folder = "";
let server: Server | null = null;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "checkpoint-"));
});
afterEach(async () => {
  server?.closeAllConnections();
  server?.close();
  server = null;
  await rm(folder, { recursive: true });
});

/** Copies the small two-shard checkpoint, to be damaged. */
function copyRagged(): string {
  cpSync(`${FIXTURES}ragged-v3-fp8`, folder, { recursive: true });
  return folder;
}

async function serve(directory: string): Promise<{ url: string; asked: string[] }> {
  const asked: string[] = [];
  server = createServer((request, response) => {
    const name = decodeURIComponent(request.url?.split("/").at(-1) ?? "");
    asked.push(`${name} ${request.headers.range ?? ""}`.trim());
    readFile(join(directory, name)).then(
      (bytes) => {
        const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "") ?? [];
        if (first === undefined || last === undefined) return response.end(bytes);
        response.writeHead(206, { "content-range": `bytes ${first}-${last}/${bytes.length}` });
        return response.end(bytes.subarray(Number(first), Number(last) + 1));
      },
      () => response.writeHead(404).end(),
    );
  });
  const listening = server;
  await new Promise<void>((resolve) => listening.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${(listening.address() as AddressInfo).port}/models/tiny`, asked };
}

describe("openDirectory()", () => {
  it("opens the tiny model: shards, MTP layer, tokenizer texts", async () => {
    const checkpoint = await openDirectory(TINY_MODEL);
    expect(checkpoint).toMatchObject({ layout: "indexed", warnings: [], generationConfig: { doSample: false, temperature: null } });
    expect(checkpoint.config).toMatchObject({ nLayers: 6, nMtpLayers: 1, eosTokenIds: [1], bosTokenId: 0 });
    expect(checkpoint.tokenizerJson?.startsWith("{")).toBe(true);
    expect(checkpoint.tokenizerConfigJson).toContain("chat_template");
    expect(checkpoint.chatTemplate).toBeNull();
    expect(validateCheckpoint(checkpoint.config, checkpoint.tensors.tensors)).toEqual({ warnings: [] });
    const summary = summarize(checkpoint.config, checkpoint.tensors.tensors);
    expect(summary.totalBytes).toBe(31_427_284);
    // Its card: 24.9 million parameters, embedding and head counted once, about 6.4 million used for each token.
    expect((summary.parameters.main + summary.parameters.mtp) / 1e6).toBeCloseTo(24.9, 1);
    expect(summary.bytesByKind.other).toBe(0);
    await checkpoint.close();
  });

  it("opens the ragged and the V2-style fixtures", async () => {
    for (const [name, layout] of [
      ["ragged-v3-fp8", "indexed"],
      ["micro-v2-bf16", "single"],
    ] as const) {
      const checkpoint = await openDirectory(FIXTURES + name);
      expect(checkpoint.layout).toBe(layout);
      expect(validateCheckpoint(checkpoint.config, checkpoint.tensors.tensors)).toEqual({ warnings: [] });
      await checkpoint.close();
    }
  });

  it("opens the demo's layout under Hugging Face's names, with a config given", async () => {
    const original = await openDirectory(`${FIXTURES}micro-v2-bf16`);
    const entries = [...original.tensors.tensors.values()].map(({ name, dtype, shape }: TensorInfo) => ({
      name: toDemoName(name),
      dtype,
      shape,
      data: () => original.tensors.readSlices(name),
    }));
    await writeSafetensorsFile(join(folder, "model0-mp1.safetensors"), entries);
    const written = await openSafetensors(await fileSource(join(folder, "model0-mp1.safetensors")));
    expect(written.tensors.has("layers.1.ffn.gate.weight")).toBe(true);
    await written.close();

    await expect(openDirectory(folder)).rejects.toMatchObject({ code: "missing-file", path: "'config.json'" });
    const checkpoint = await openDirectory(folder, { config: original.config });
    expect(checkpoint.layout).toBe("demo");
    expect(validateCheckpoint(checkpoint.config, checkpoint.tensors.tensors)).toEqual({ warnings: [] });
    const name = "model.layers.2.mlp.experts.7.down_proj.weight";
    expect(await checkpoint.tensors.readTensor(name)).toEqual(await original.tensors.readTensor(name));
    await checkpoint.close();
    await original.close();
  });

  it("finds the MTP layer that a config does not mention", async () => {
    const declared = parseConfig(JSON.parse(await readFile(`${TINY_MODEL}config.json`, "utf8")));
    const checkpoint = await openDirectory(TINY_MODEL, { config: { ...declared, nMtpLayers: 0 } });
    expect(checkpoint.config.nMtpLayers).toBe(1);
    await checkpoint.close();
  });

  it("does without an MTP layer that only the config mentions, and says so", async () => {
    const config = JSON.parse(await readFile(`${FIXTURES}micro-v2-bf16/config.json`, "utf8")) as object;
    cpSync(`${FIXTURES}micro-v2-bf16`, folder, { recursive: true });
    await writeFile(join(folder, "config.json"), JSON.stringify({ ...config, num_nextn_predict_layers: 1 }));
    const checkpoint = await openDirectory(folder);
    expect(checkpoint.config.nMtpLayers).toBe(0);
    expect(checkpoint.warnings).toEqual(["the config has 1 MTP layers and the files have 0: 0 will be used"]);
    await checkpoint.close();
  });

  it("adds the end tokens of generation_config.json", async () => {
    await writeFile(join(copyRagged(), "generation_config.json"), '{"eos_token_id":[2,1],"temperature":0.6,"top_p":0.95,"do_sample":true}');
    const checkpoint = await openDirectory(folder);
    expect(checkpoint.config.eosTokenIds).toEqual([1, 2]);
    expect(checkpoint.generationConfig).toEqual({ temperature: 0.6, topP: 0.95, topK: null, doSample: true });
    await checkpoint.close();
  });

  it.each<readonly [string, (directory: string) => Promise<void>, object]>([
    ["a missing config", (directory) => rm(join(directory, "config.json")), { code: "missing-file", path: "'config.json'" }],
    ["a config that is not JSON", (directory) => writeFile(join(directory, "config.json"), "{"), { name: "ConfigError" }],
    ["a config that is not UTF-8", (directory) => writeFile(join(directory, "config.json"), Uint8Array.of(0xff)), { code: "unreadable" }],
    [
      "a generation config that is not JSON",
      (directory) => writeFile(join(directory, "generation_config.json"), "x"),
      { code: "unreadable" },
    ],
    ["missing weights", (directory) => rm(join(directory, "model.safetensors.index.json")), { code: "missing-file", path: "the weights" }],
    ["a missing shard", (directory) => rm(join(directory, "model-00002-of-00002.safetensors")), { code: "missing-shard" }],
    ["a truncated shard", (directory) => truncate(join(directory, "model-00002-of-00002.safetensors"), 900_000), { code: "truncated" }],
    ["an empty shard", (directory) => truncate(join(directory, "model-00002-of-00002.safetensors"), 0), { code: "too-short" }],
    ["a bad index", (directory) => writeFile(join(directory, "model.safetensors.index.json"), "[]"), { code: "index" }],
    [
      "a shard in another directory",
      (directory) => writeFile(join(directory, "model.safetensors.index.json"), '{"weight_map":{"a":"../x.safetensors"}}'),
      { code: "shard-name" },
    ],
    [
      "the demo's layout over several processes",
      async (directory) => {
        await rm(join(directory, "model.safetensors.index.json"));
        await writeFile(join(directory, "model0-mp8.safetensors"), "");
      },
      { code: "layout", path: "'model0-mp8.safetensors'" },
    ],
  ])("refuses %s", async (_, damage, error) => {
    await damage(copyRagged());
    await expect(openDirectory(folder)).rejects.toMatchObject(error);
  });

  it("says that there is no such directory", async () => {
    await expect(openDirectory(join(folder, "none"))).rejects.toMatchObject({ code: "location" });
    await expect(openLocation(join(folder, "none"))).rejects.toMatchObject({ code: "location", actual: "does not exist" });
  });

  it("says that a file is none, such as one of a checkpoint's own", async () => {
    const path = join(copyRagged(), "config.json");
    await expect(openLocation(path)).rejects.toMatchObject({ code: "location", actual: "is a file" });
  });

  it("stops when aborted", async () => {
    await expect(openDirectory(TINY_MODEL, { signal: AbortSignal.abort(new Error("enough")) })).rejects.toThrow("enough");
  });
});

describe("openCheckpoint()", () => {
  it("opens an address, reading headers and small files only", async () => {
    const { url, asked } = await serve(TINY_MODEL);
    const checkpoint = await openCheckpoint(url);
    expect(checkpoint).toMatchObject({ location: `${url}/`, layout: "indexed", config: { nMtpLayers: 1 } });
    expect(validateCheckpoint(checkpoint.config, checkpoint.tensors.tensors)).toEqual({ warnings: [] });
    const ranges = asked.filter((request) => request.includes("bytes="));
    // Of each shard the first byte, the length and the header; of the single file that is not there, an attempt.
    expect(ranges.length).toBe(3 * 3 + 1);
    const name = "model.layers.6.eh_proj.weight";
    const local = await openDirectory(TINY_MODEL);
    expect(await checkpoint.tensors.readTensor(name)).toEqual(await local.tensors.readTensor(name));
    await local.close();
    await checkpoint.close();
  });

  it("opens files that a person picked", async () => {
    const files: File[] = [];
    for (const name of await readdir(TINY_MODEL)) files.push(new File([await readFile(TINY_MODEL + name)], name));
    const checkpoint = await openCheckpoint(files);
    expect(checkpoint).toMatchObject({ location: "picked files", layout: "indexed" });
    expect(validateCheckpoint(checkpoint.config, checkpoint.tensors.tensors)).toEqual({ warnings: [] });
    await checkpoint.close();
  });

  it.each(["", "/some/path", "./x", "a/b/c", "file:///x", "ftp://x/y", "../x", "a/..b"])("refuses %j as a location", async (location) => {
    await expect(openCheckpoint(location)).rejects.toMatchObject({ name: "CheckpointError", code: "location" });
  });
});

describe("hubBaseUrl()", () => {
  it("turns an id into the address of its files", () => {
    expect(hubBaseUrl("org/Model-1.5").pathname).toBe("/org/Model-1.5/resolve/main/");
    expect(hubBaseUrl("org/m", { endpoint: "http://127.0.0.1:1/hub", revision: "refs/pr/1" }).href).toBe(
      "http://127.0.0.1:1/hub/org/m/resolve/refs%2Fpr%2F1/",
    );
    expect(isHubId("org/m")).toBe(true);
    expect(() => hubBaseUrl("../etc")).toThrow(expect.objectContaining({ code: "location" }));
  });
});
