/**
 * Loading a checkpoint larger than any memory here, onto a device: layer ranges one after the other, each a stage whose buffers are destroyed for the next one.
 * By default 3 GB of DeepSeek-V2-Lite's shapes; SHOAL_LONG=1 takes 42 GB of them. How fast it was is printed, and no matter of the test.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { type CheckpointSource, tensorSchema } from "@shoal/checkpoint";
import { openDirectory } from "@shoal/checkpoint/directory";
import { GpuContext } from "@shoal/gpu";
import { type DenoEngine, openDenoGpu } from "@shoal/gpu/deno";
import { type LayerRange, loadLocalStage } from "@shoal/model";
import { liteConfig, writeSparseCheckpoint } from "./load/sparseCheckpoint.ts";
import type { GpuTest } from "./support/models.ts";

const MIB = 2 ** 20;
const LIMIT = 512 * MIB;
/** Layers of a stage: what it holds is host memory on a software adapter. */
const LAYERS_AT_ONCE = 2;
const LAYERS = process.env["SHOAL_LONG"] === "1" ? 72 : 4;

interface Loaded {
  readonly bytes: number;
  readonly seconds: number;
  /** Until the last bytes were written: without the count of NaN codes, which a CPU takes long for, the KV cache and activations. */
  readonly readSeconds: number;
  /** Most host memory beyond the idle process and what the device holds, where that is host memory too. */
  readonly excess: number;
}

export function tests(engine: DenoEngine): readonly GpuTest[] {
  return [{ name: "a large checkpoint loads within 512 MiB of host memory above idle", run: () => loadsWithin(engine) }];
}

async function loadsWithin(engine: DenoEngine): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "loading-"));
  try {
    const { bytes, shards, sparse } = await writeSparseCheckpoint(directory, liteConfig(LAYERS));
    if (!sparse) throw new Error(`${directory} is on a file system that keeps no holes, expected one that does`);
    console.log(`  a checkpoint of ${(bytes / 1e9).toFixed(1)} GB in ${shards} shards`);
    const checkpoint = await openDirectory(directory);
    const gpu = await openDenoGpu({ webgpu: engine });
    // The process with its device open, before anything of the model is there.
    const idle = process.memoryUsage().rss;
    try {
      // The second time the files are warm, where memory has room for them.
      for (const time of ["first", "second"]) {
        const loaded = await loadAll(gpu, checkpoint, idle);
        report(time, loaded, idle);
        const wanted = storedBytes(checkpoint);
        if (loaded.bytes !== wanted) throw new Error(`${loaded.bytes} bytes were loaded, expected ${wanted}: every tensor once`);
        if (loaded.excess >= LIMIT)
          throw new Error(`${Math.round(loaded.excess / MIB)} MiB of host memory, expected less than ${LIMIT / MIB}`);
      }
    } finally {
      gpu.destroy();
      await checkpoint.close();
    }
  } finally {
    await rm(directory, { recursive: true });
  }
}

function report(time: string, { bytes, seconds, readSeconds, excess }: Loaded, idle: number): void {
  const rate = (of: number): string => `${(bytes / of / 1e9).toFixed(2)} GB/s`;
  console.log(
    `  ${time} time: ${(bytes / 1e9).toFixed(1)} GB in ${seconds.toFixed(1)} s, ${rate(seconds)}, ${rate(readSeconds)} while reading and writing; ` +
      `host memory at most ${Math.round(excess / MIB)} MiB above idle (${Math.round(idle / MIB)} MiB) and what the device holds`,
  );
}

async function loadAll(gpu: GpuContext, checkpoint: CheckpointSource, idle: number): Promise<Loaded> {
  const { nLayers } = checkpoint.config;
  const total = { bytes: 0, seconds: 0, readSeconds: 0, excess: 0 };
  for (let begin = 0; begin < nLayers; begin += LAYERS_AT_ONCE) {
    const loaded = await loadRange(gpu, checkpoint, { begin, end: Math.min(begin + LAYERS_AT_ONCE, nLayers) }, idle);
    total.bytes += loaded.bytes;
    total.seconds += loaded.seconds;
    total.readSeconds += loaded.readSeconds;
    total.excess = Math.max(total.excess, loaded.excess);
  }
  return total;
}

/** One stage on a device that other stages were on before: its buffers are destroyed at the end, so that the device's memory is used again. */
async function loadRange(gpu: GpuContext, checkpoint: CheckpointSource, layers: LayerRange, idle: number): Promise<Loaded> {
  const free = collectBuffers(gpu);
  let excess = 0;
  let bytes = 0;
  let readSeconds = 0;
  const sample = (): void => {
    const onDevice = gpu.adapter.isSoftware ? gpu.memory.total() : 0;
    excess = Math.max(excess, process.memoryUsage().rss - idle - onDevice);
  };
  const start = performance.now();
  try {
    await loadLocalStage(gpu, checkpoint, {
      layers,
      contextTokens: 256,
      maxTokens: 16,
      onProgress: ({ loadedBytes }) => {
        bytes = loadedBytes;
        readSeconds = (performance.now() - start) / 1000;
        sample();
      },
    });
    const seconds = (performance.now() - start) / 1000;
    sample();
    return { bytes, seconds, readSeconds, excess };
  } finally {
    free();
    await givenBack(gpu, idle);
  }
}

/** Destroyed buffers are given back when the queue has passed them, by a software driver some turns later: what is not back after these counts. */
async function givenBack(gpu: GpuContext, idle: number): Promise<void> {
  for (let turn = 0; turn < 100; turn++) {
    gpu.submit([]);
    await gpu.idle();
    if (!gpu.adapter.isSoftware || process.memoryUsage().rss - idle < LIMIT / 2) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** What is made from now on; the result destroys it. */
function collectBuffers(gpu: GpuContext): () => void {
  const make = GpuContext.prototype.buffer.bind(gpu);
  const made: GPUBuffer[] = [];
  const collecting: GpuContext["buffer"] = (request) => {
    const buffer = make(request);
    made.push(buffer);
    return buffer;
  };
  Object.defineProperty(gpu, "buffer", { value: collecting, configurable: true });
  return () => {
    for (const buffer of made) gpu.destroyBuffer(buffer);
    Reflect.deleteProperty(gpu, "buffer");
  };
}

function storedBytes({ config, tensors }: CheckpointSource): number {
  return tensorSchema(config)
    .flatMap(({ name, scaleName }) => [name, ...(scaleName === undefined ? [] : [scaleName])])
    .reduce((sum, name) => sum + (tensors.tensors.get(name)?.byteLength ?? 0), 0);
}
