/** Loads the weights of a run of layers, with embedding, head and MTP module where they belong, and checks FP8 codes on the GPU. */
import { type CheckpointSource, type ModelConfig, tensorSchema, validateCheckpoint } from "@shoal/checkpoint";
import type { GpuContext } from "@shoal/gpu";
import { NAN_COUNTER_STRIDE, type WeightMatrix, fp8NanScan } from "@shoal/kernels";
import { ModelError } from "../errors.ts";
import { type LayerWeights, loadLayer } from "./layer.ts";
import { loadMatrix } from "./matrices.ts";
import { type LoadProgress, WeightReader } from "./reader.ts";

export interface MtpWeights {
  readonly enorm: GPUBuffer;
  readonly hnorm: GPUBuffer;
  readonly ehProj: WeightMatrix;
  readonly layer: LayerWeights;
  /** shared_head.norm */
  readonly norm: GPUBuffer;
}

export interface ModelWeights {
  readonly layers: readonly LayerWeights[];
  /** Present where the first layer is. */
  readonly embedding?: WeightMatrix;
  /** Present where the last layer is. */
  readonly head?: { readonly norm: GPUBuffer; readonly projection: WeightMatrix };
  readonly mtp?: MtpWeights;
}

/** Layers `begin .. end`; embedding and head come with the first and the last one. */
export interface LayerRange {
  readonly begin: number;
  readonly end: number;
}

export interface LoadOptions {
  readonly range?: LayerRange;
  /** Load the MTP module. */
  readonly mtp?: boolean;
  readonly maxTokens: number;
  /** The routed experts are somewhere else. */
  readonly givesExperts?: boolean;
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * @throws CheckpointError if tensors are missing or malformed, AdapterLimitError or GpuError if they do not fit, ModelError named bad-weights if they hold NaN.
 */
export async function loadWeights(gpu: GpuContext, checkpoint: CheckpointSource, options: LoadOptions): Promise<ModelWeights> {
  const { config, tensors } = checkpoint;
  const { range = { begin: 0, end: config.nLayers }, mtp = false, maxTokens, givesExperts = false, onProgress, signal } = options;
  validateCheckpoint(config, tensors.tensors, checkpoint.location);
  const reader = new WeightReader({
    gpu,
    store: tensors,
    totalBytes: bytesToLoad(checkpoint, range, mtp, givesExperts),
    onProgress,
    signal,
  });
  const load = async (): Promise<ModelWeights> => {
    const first = range.begin === 0;
    const last = range.end === config.nLayers;
    const embedding = first || (last && mtp) ? await loadMatrix(reader, "model.embed_tokens.weight") : undefined;
    const layers: LayerWeights[] = [];
    for (let index = range.begin; index < range.end; index++) {
      layers.push(await loadLayer(reader, config, index, maxTokens, givesExperts));
      gpu.check();
    }
    const head = last ? await loadHead(reader, config, embedding) : undefined;
    const weights: ModelWeights = {
      layers,
      ...(embedding && { embedding }),
      ...(head && { head }),
      ...(last && mtp && config.nMtpLayers > 0 && { mtp: await loadMtp(reader, config, maxTokens, givesExperts) }),
    };
    await reader.finish();
    await rejectNaN(gpu, weights);
    return weights;
  };
  return gpu.scoped("load weights", async () => {
    try {
      return await load();
    } finally {
      await reader.stop();
    }
  });
}

async function loadHead(
  reader: WeightReader,
  config: ModelConfig,
  embedding: WeightMatrix | undefined,
): Promise<{ norm: GPUBuffer; projection: WeightMatrix }> {
  const norm = await reader.vector("model.norm.weight");
  const stored = reader.store.tensors.has("lm_head.weight");
  if (!stored && config.tieWordEmbeddings)
    return { norm, projection: embedding ?? (await loadMatrix(reader, "model.embed_tokens.weight")) };
  return { norm, projection: await loadMatrix(reader, "lm_head.weight") };
}

async function loadMtp(reader: WeightReader, config: ModelConfig, maxTokens: number, givesExperts: boolean): Promise<MtpWeights> {
  const index = config.nLayers;
  const prefix = `model.layers.${index}`;
  return {
    enorm: await reader.vector(`${prefix}.enorm.weight`),
    hnorm: await reader.vector(`${prefix}.hnorm.weight`),
    ehProj: await loadMatrix(reader, `${prefix}.eh_proj.weight`),
    layer: await loadLayer(reader, config, index, maxTokens, givesExperts),
    norm: await reader.vector(`${prefix}.shared_head.norm.weight`),
  };
}

function bytesToLoad(checkpoint: CheckpointSource, range: LayerRange, mtp: boolean, givesExperts: boolean): number {
  const { config, tensors } = checkpoint;
  let bytes = 0;
  for (const spec of tensorSchema(config)) {
    const { layer } = spec;
    const wanted =
      layer === null
        ? spec.name === "model.embed_tokens.weight"
          ? range.begin === 0 || mtp
          : range.end === config.nLayers
        : layer >= config.nLayers
          ? mtp && layer === config.nLayers && spec.duplicateOf === null
          : layer >= range.begin && layer < range.end;
    if (!wanted || (givesExperts && spec.role === "routedExpert")) continue;
    bytes += tensors.tensors.get(spec.name)?.byteLength ?? 0;
    if (spec.scaleName !== undefined) bytes += tensors.tensors.get(spec.scaleName)?.byteLength ?? 0;
  }
  return bytes;
}

/** FP8 codes 0x7f and 0xff decode to finite values on the GPU, so a damaged file would run and talk nonsense: they are counted once, there. */
async function rejectNaN(gpu: GpuContext, weights: ModelWeights): Promise<void> {
  const buffers = fp8Buffers(weights);
  if (buffers.length === 0) return;
  const counter = gpu.buffer({ label: "NaN counts", size: buffers.length * NAN_COUNTER_STRIDE, kind: "scratch" });
  try {
    for (const [index, buffer] of buffers.entries()) gpu.submit(await fp8NanScan(gpu, { buffer, words: buffer.size / 4, counter, index }));
    const words = new Uint32Array(await gpu.read(counter));
    const counts = buffers.map((_, index) => words[(index * NAN_COUNTER_STRIDE) / 4] ?? 0);
    const bad = counts.findIndex((count) => count > 0);
    if (bad >= 0)
      throw new ModelError(
        "bad-weights",
        `Cannot use the weights '${buffers[bad]?.label}': ${counts[bad]} of their FP8 codes are NaN (0x7f or 0xff), expected none; the file is damaged`,
      );
  } finally {
    gpu.destroyBuffer(counter);
  }
}

function fp8Buffers(weights: ModelWeights): readonly GPUBuffer[] {
  const matrices: WeightMatrix[] = [];
  const buffers: GPUBuffer[] = [];
  for (const { attention, mlp } of [...weights.layers, ...(weights.mtp ? [weights.mtp.layer] : [])]) {
    matrices.push(...attention.input.matrices.map(({ matrix }) => matrix), attention.kvB, attention.output);
    if (attention.query) matrices.push(attention.query.projection);
    for (const group of [mlp.routed?.group, mlp.fixed?.group])
      if (group?.format === "fp8") buffers.push(...[...group.gateUp, ...group.down].map(({ buffer }) => buffer));
  }
  for (const { format, parts } of matrices) if (format === "fp8") buffers.push(...parts.map(({ buffer }) => buffer));
  return buffers;
}
