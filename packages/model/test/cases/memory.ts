/** What a loaded model takes: the ledger has every buffer, weights are there once and as stored, and what was predicted is what there is. */
import assert from "node:assert/strict";
import { tensorSchema } from "@shoal/checkpoint";
import type { GpuContext } from "@shoal/gpu";
import { openDenoGpu } from "@shoal/gpu/deno";
import {
  type LocalStageOptions,
  expertBytes,
  loadLocalExpertShard,
  loadLocalStage,
  memoryRequirements,
  shardActivationBytes,
  stagePlan,
  weightBytes,
} from "@shoal/model";
import type { CheckpointName, GpuTest, Models } from "../support/models.ts";

/** Of the stored bytes: rows up to 16 elements, stacked matrices up to 128 rows, small BF16 tensors as f32. Much of it only in models as small as these. */
const PADDING: Readonly<Record<CheckpointName, number>> = { tiny: 0.001, "ragged-v3-fp8": 0.06, "micro-v2-bf16": 0.09 };
const OPTIONS: LocalStageOptions = { contextTokens: 256, maxTokens: 64, maxSequences: 2 };

export function memory(models: Models, names: readonly CheckpointName[]): readonly GpuTest[] {
  return names.flatMap((name) => [
    ...[false, true].map((mtp) => ({
      name: `${name}${mtp ? " with its MTP module" : ""}: the ledger has every buffer, weights once as stored, as predicted`,
      run: () => accounted(models, name, { ...OPTIONS, mtp, kvFormat: mtp ? "fp8" : "f16" }),
    })),
    { name: `${name}: a stage that gives its experts away, and a shard of some, take what was predicted`, run: () => apart(models, name) },
  ]);
}

async function apart(models: Models, name: CheckpointName): Promise<void> {
  const checkpoint = await models.checkpoint(name);
  const { nDenseLayers, nLayers } = checkpoint.config;
  const gpu = await openDenoGpu({ webgpu: models.engine });
  try {
    const layers = Array.from({ length: nLayers - nDenseLayers }, (_, index) => nDenseLayers + index);
    const maxTokens = 64;
    const shard = await loadLocalExpertShard(gpu, checkpoint, {
      experts: layers.map((layer) => ({ layer, experts: [1, 2, 3, 4] })),
      maxTokens,
    });
    const { weights = 0, activations = 0 } = gpu.memory.byKind();
    assert.equal(weights, 4 * expertBytes(checkpoint, { begin: 0, end: nLayers }), "weights of experts");
    const ratio = activations / shardActivationBytes(checkpoint, maxTokens);
    assert.ok(ratio > 0.6 && ratio <= 1, `a shard's activations take ${activations} bytes, ${ratio} of what was predicted`);
    await loadLocalStage(gpu, checkpoint, { ...OPTIONS, experts: shard });
    const { weights: both = 0 } = gpu.memory.byKind();
    assert.equal(both - weights, weightBytes(checkpoint, { mtp: false, givesExperts: true }), "weights of the stage");
  } finally {
    gpu.destroy();
  }
}

async function accounted(models: Models, name: CheckpointName, options: LocalStageOptions): Promise<void> {
  const checkpoint = await models.checkpoint(name);
  const gpu = await openDenoGpu({ webgpu: models.engine });
  try {
    const held = watchBuffers(gpu);
    const stage = await loadLocalStage(gpu, checkpoint, options);
    const sequence = await stage.open();
    await stage.forward({ entries: [{ sequence, tokens: [1, 2, 3, 4, 5, 6, 7] }], output: "lastLogits" });
    await stage.forward({ entries: [{ sequence, tokens: [8] }], output: "lastLogits" });
    assert.equal(held(), gpu.memory.total(), "bytes of all buffers that exist, and the ledger's");

    const { weights = 0, kvCache = 0, activations = 0 } = gpu.memory.byKind();
    const stored = storedBytes(checkpoint, options.mtp === true);
    const padding = (weights - stored) / stored;
    console.log(
      `    weights ${weights}, stored ${stored}, padding ${(padding * 100).toFixed(2)} %; KV cache ${kvCache}, activations ${activations}`,
    );
    assert.ok(padding >= 0 && padding <= PADDING[name], `weights take ${weights} bytes for ${stored} stored ones`);

    const subgroupMatrix = gpu.dialect.subgroupMatrix !== undefined;
    const predicted = memoryRequirements(checkpoint, {
      ...stagePlan(checkpoint.config, options),
      kvFormat: options.kvFormat ?? "f16",
      subgroupMatrix,
    });
    assert.equal(weights, predicted.weights, "weights");
    assert.equal(kvCache, predicted.kvCache, "KV cache");
    const ratio = activations / predicted.activations;
    assert.ok(ratio > 0.8 && ratio < 1.25, `activations take ${activations} bytes, predicted were ${predicted.activations}`);
  } finally {
    gpu.destroy();
  }
}

/** Bytes of the buffers made from now on that still exist, as the device itself sees them. */
function watchBuffers(gpu: GpuContext): () => number {
  let bytes = gpu.memory.total();
  const { device } = gpu;
  const create = device.createBuffer.bind(device);
  Object.defineProperty(device, "createBuffer", {
    value: (descriptor: GPUBufferDescriptor) => {
      const buffer = create(descriptor);
      bytes += buffer.size;
      const destroy = buffer.destroy.bind(buffer);
      Object.defineProperty(buffer, "destroy", {
        value: () => {
          bytes -= buffer.size;
          destroy();
        },
      });
      return buffer;
    },
  });
  return () => bytes;
}

/** Of the tensors that a run loads, each once. */
function storedBytes({ config, tensors }: Awaited<ReturnType<Models["checkpoint"]>>, mtp: boolean): number {
  return tensorSchema(config)
    .filter((spec) => spec.duplicateOf === null && (mtp || !spec.mtp))
    .flatMap(({ name, scaleName }) => [name, ...(scaleName === undefined ? [] : [scaleName])])
    .reduce((sum, name) => sum + (tensors.tensors.get(name)?.byteLength ?? 0), 0);
}
