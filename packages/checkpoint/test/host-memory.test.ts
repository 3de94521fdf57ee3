/**
 * Host memory while a checkpoint larger than any memory here is read: a 40 GB FP8 model of DeepSeek-V3's own shapes, with four layers, as one
 * sparse file. By default 4 GiB of it are streamed; SHOAL_LONG=1 streams all of it.
 */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, open, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { layoutSafetensors, type TensorDeclaration } from "@shoal/safetensors";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { parseHfConfig } from "../src/hf-config.ts";
import { tensorSchema } from "../src/tensor-schema.ts";
import { DEEPSEEK_V3 } from "./fixtures.ts";

const DENO = new URL("../../../node_modules/.bin/deno", import.meta.url).pathname;
const SCRIPT = new URL("stream-checkpoint.ts", import.meta.url).pathname;
const CONFIG = { ...DEEPSEEK_V3, num_hidden_layers: 4, first_k_dense_replace: 1, num_nextn_predict_layers: 0 };
const MIB = 2 ** 20;
const LIMIT = 512 * MIB;
const LONG = process.env["SHOAL_LONG"] === "1";

function declarations(): TensorDeclaration[] {
  const tensors: TensorDeclaration[] = [];
  for (const spec of tensorSchema(parseHfConfig(CONFIG))) {
    tensors.push({ name: spec.name, dtype: spec.kind === "fp8Block" ? "F8_E4M3" : "F32", shape: spec.shape });
    if (spec.scaleName !== undefined) tensors.push({ name: spec.scaleName, dtype: "F32", shape: spec.scaleShape ?? [] });
  }
  return tensors;
}

describe.skipIf(!existsSync(DENO))("host memory", () => {
  let folder = "";
  let size = 0;
  let sparse = false;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "host-memory-"));
    const layout = layoutSafetensors(declarations());
    size = layout.byteLength;
    await writeFile(join(folder, "config.json"), JSON.stringify(CONFIG));
    const file = await open(join(folder, "model.safetensors"), "w");
    try {
      await file.write(layout.header);
      await file.truncate(size);
    } finally {
      await file.close();
    }
    const { blocks } = await stat(join(folder, "model.safetensors"));
    sparse = blocks * 512 < 64 * MIB;
  });
  afterAll(() => rm(folder, { recursive: true }));

  it("stays within 512 MiB of the idle process while a 40 GB checkpoint streams by", async (context) => {
    if (!sparse) context.skip("this file system keeps no holes");
    const budget = LONG ? size : 4096 * MIB;
    const { stdout } = await promisify(execFile)(DENO, ["run", "-A", SCRIPT, folder, String(budget)]);
    const report = JSON.parse(stdout) as { idle: number; peak: number; bytes: number; slices: number; fileBytes: number };
    expect(size).toBeGreaterThan(40e9);
    expect(report.fileBytes).toBe(size);
    expect(report.bytes).toBeGreaterThanOrEqual(budget);
    expect(report.peak - report.idle).toBeLessThan(LIMIT);
  }, 600_000);
});
