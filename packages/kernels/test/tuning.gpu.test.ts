/** That tuning measures every operation that has variants, chooses only what is right, and leaves nothing behind. */
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import type { GpuContext } from "@shoal/gpu";
import { type DenoEngine, openDenoGpu } from "@shoal/gpu/deno";
import { TrialChoices, tune } from "@shoal/kernels/tuning";
import { tuningCases } from "../src/tuning/cases.ts";

const SOURCES = new URL("../src/", import.meta.url);

export async function tests(webgpu: DenoEngine): Promise<readonly { name: string; run: () => Promise<void> }[]> {
  const trial = new TrialChoices();
  const gpu = await openDenoGpu({ webgpu, choices: trial });
  return [
    { name: "tuning has cases for every kernel with variants", run: async () => coversKernels(gpu) },
    { name: "tune() measures all variants of an operation and chooses one that there is", run: () => measures(gpu) },
    { name: "tune() stops when its signal is aborted", run: () => stops(gpu) },
    { name: "tune() refuses a context whose choices are fixed", run: () => refusesFixed(webgpu) },
    {
      name: "tune() frees its buffers",
      run: async () => {
        gpu.trim();
        assert.equal(gpu.memory.total(), 0);
        gpu.destroy();
      },
    },
  ];
}

function coversKernels(gpu: GpuContext): void {
  const folders = readdirSync(SOURCES, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !["bench", "testing", "tuning"].includes(entry.name))
    .map(({ name }) => name);
  const choosing = folders.filter((folder) =>
    readdirSync(new URL(`${folder}/`, SOURCES))
      .filter((file) => file.endsWith(".ts") && file !== "contract.ts")
      .some((file) => readFileSync(new URL(`${folder}/${file}`, SOURCES), "utf8").includes("chooseVariant(")),
  );
  assert.ok(choosing.length > 0, "no kernel has variants");
  for (const size of ["small", "full"] as const) {
    const covered = new Set(tuningCases(gpu, size, true).map(({ op }) => op));
    const missing = choosing.filter((folder) => !covered.has(folder));
    assert.deepEqual(missing, [], `kernels without a case of size ${size}: give them one in src/tuning/cases.ts`);
  }
}

async function measures(gpu: GpuContext): Promise<void> {
  const { winners, measurements, problems } = await tune(gpu, { size: "small", quick: true, ops: ["matvec"] });
  assert.deepEqual(problems, []);
  assert.ok(winners.length > 0);
  for (const { operation, variant, times } of winners) {
    assert.match(operation, /^matvec\//);
    if (variant !== null) assert.ok(variant in times, `${operation} chose ${variant}, which has no time`);
    for (const ms of Object.values(times)) assert.ok(ms > 0 && Number.isFinite(ms));
  }
  assert.ok(measurements.some(({ variant, preferred }) => variant !== preferred) || Object.keys(winners[0]?.times ?? {}).length === 1);
  assert.equal(gpu.choices.size, 0);
}

async function stops(gpu: GpuContext): Promise<void> {
  const stop = new AbortController();
  const done = tune(gpu, { size: "small", ops: ["matvec", "matmul"], onCase: () => stop.abort(), signal: stop.signal });
  await assert.rejects(done, { name: "AbortError" });
}

async function refusesFixed(webgpu: DenoEngine): Promise<void> {
  const gpu = await openDenoGpu({ webgpu });
  try {
    await assert.rejects(tune(gpu, { size: "small" }), /choices are fixed/);
  } finally {
    gpu.destroy();
  }
}
