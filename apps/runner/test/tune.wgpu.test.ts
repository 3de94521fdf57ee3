/** `shoal tune`: the table that it keeps, who uses it, and what becomes of bad ones. Which variants win depends on the machine, and is no matter of tests. */
import assert from "node:assert/strict";
import { readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { DenoEngine } from "@shoal/gpu/deno";
import { type TuningTable, parseTuningTable } from "@shoal/model/tuning";
import { type ShoalResult, on, shoal, withDirectory } from "./shoal.ts";

export function tests(webgpu: DenoEngine): readonly { name: string; run: () => Promise<void> }[] {
  return [
    { name: "shoal tune keeps a table that later runs use and doctor shows", run: () => keepsTable(webgpu) },
    { name: "shoal tune leaves an earlier table alone when it is interrupted", run: () => stops(webgpu) },
  ];
}

async function keepsTable(webgpu: DenoEngine): Promise<void> {
  await withDirectory(async (cache) => {
    const env = { SHOAL_CACHE_DIR: cache };
    const tuned = await shoal(["tune", "--quick", "--json", ...on(webgpu)], { env });
    assert.equal(tuned.code, 0, tuned.stderr);
    const printed = parseTuningTable(tuned.stdout);
    const file = await onlyTable(cache);
    assert.deepEqual(parseTuningTable(await readFile(file, "utf8")), printed);
    assert.ok(Object.keys(printed.times).length >= 5, "few operations were measured");
    for (const [operation, variant] of Object.entries(printed.choices))
      assert.ok(printed.times[operation]?.[variant] !== undefined, operation);
    assert.match(tuned.stderr, /^Tune: 1 of \d+, /m);
    assert.ok(tuned.stderr.includes(file), tuned.stderr);

    const operations = Object.keys(printed.choices).length;
    const run = await someRun(webgpu, env);
    assert.match(run.stderr, new RegExp(`^Tuning: ${operations} operations, measured here on `, "m"));
    assert.doesNotMatch((await someRun(webgpu, env, "--tuning", "off")).stderr, /^Tuning:/m);
    const doctor = await shoal(["doctor", "--json", ...on(webgpu)], { env });
    const [engine] = (JSON.parse(doctor.stdout) as { engines: { device: { tuning: { source: string; file: string } } }[] }).engines;
    assert.deepEqual([engine?.device.tuning.source, engine?.device.tuning.file], ["own", file]);

    // Names that nobody knows are no trouble.
    const odd: TuningTable = { ...printed, choices: { ...printed.choices, "matvec/fp8/1/256x256": "no-such-variant", "future/op": "v9" } };
    await writeFile(file, JSON.stringify(odd));
    assert.equal((await someRun(webgpu, env)).stdout, run.stdout);
    await writeFile(file, "{");
    const damaged = await someRun(webgpu, env);
    assert.match(damaged.stderr, /^Warning: Cannot use the tuning table '.*': it is not JSON/m);
  });
}

async function stops(webgpu: DenoEngine): Promise<void> {
  await withDirectory(async (cache) => {
    const result = await shoal(["tune", ...on(webgpu)], {
      env: { SHOAL_CACHE_DIR: cache },
      interruptWhen: ({ stderr }) => stderr.includes("Tune: 1 of"),
    });
    assert.equal(result.code, 130, result.stderr);
    assert.deepEqual(await readdir(cache), []);
  });
}

/** @returns a run that loads the embedded model, and went well */
async function someRun(webgpu: DenoEngine, env: Readonly<Record<string, string>>, ...more: readonly string[]): Promise<ShoalResult> {
  const result = await shoal(["generate", "Hi", "--max-new-tokens", "2", "--temperature", "0", ...on(webgpu), ...more], { env });
  assert.equal(result.code, 0, result.stderr);
  return result;
}

async function onlyTable(cache: string): Promise<string> {
  const [name = "", ...others] = await readdir(join(cache, "tuning"));
  assert.deepEqual(others, []);
  return join(cache, "tuning", name);
}
