/** What a run takes of a device, from the config and the headers alone, so that it can be refused before anything is loaded. Pure. */
import { type CheckpointSource, type ModelConfig } from "@shoal/checkpoint";
import { AdapterLimitError } from "@shoal/gpu";
import {
  CHUNK,
  FORMAT_BYTES,
  type KvFormat,
  SCALE_BLOCK,
  type WeightFormat,
  attentionPartialRows,
  kvRowBytes,
  roundUp,
  stripHalvesBytes,
} from "@shoal/kernels";
import { boardRoom, halvesRoom, normedHalvesBytes } from "./activations.ts";
import { KV_BLOCK_SIZE } from "./kvCache.ts";
import { weightBytes } from "./weights/footprint.ts";
import { type BindingLimits, bindingBytes, expertsPerPage, mlpSlices } from "./weights/layout.ts";

export interface RunShape {
  readonly contextTokens: number;
  readonly maxSequences: number;
  /** Of all sequences together; by default one of full length. */
  readonly kvTokens?: number;
  readonly maxTokens: number;
  readonly maxOutputs: number;
  readonly kvFormat: KvFormat;
  readonly mtp: boolean;
  /** Whether the device multiplies by subgroup matrices (Dialect.subgroupMatrix), which takes room for their inputs. */
  readonly subgroupMatrix?: boolean;
}

export interface MemoryRequirements {
  readonly weights: number;
  readonly kvCache: number;
  readonly activations: number;
  readonly total: number;
}

/** Bytes: of weights and KV cache to the byte, as the device's ledger has them after loading; of activations to within a tenth or so. */
export function memoryRequirements(checkpoint: Pick<CheckpointSource, "config" | "tensors">, run: RunShape): MemoryRequirements {
  const { config } = checkpoint;
  const mtp = run.mtp && config.nMtpLayers > 0;
  const weights = weightBytes(checkpoint, { mtp });
  const layers = config.nLayers + (mtp ? 1 : 0);
  const blocks = Math.max(run.maxSequences, Math.ceil((run.kvTokens ?? run.contextTokens) / KV_BLOCK_SIZE));
  const kvCache = blocks * KV_BLOCK_SIZE * kvRowBytes(config, run.kvFormat) * layers;
  const activations = activationBuffers(config, run).reduce((sum, { bytes, buffers = 1 }) => sum + bytes * buffers, 0);
  return { weights, kvCache, activations, total: weights + kvCache + activations };
}

interface ActivationBuffers {
  readonly what: string;
  /** Of one buffer. */
  readonly bytes: number;
  /** How many of that size; 1 by default. */
  readonly buffers?: number;
}

/** The activations that grow with the model (activations.ts), and their board: bytes of one buffer, and how many there are. */
function activationBuffers(config: ModelConfig, run: RunShape): readonly ActivationBuffers[] {
  const { nHeads, kvLoraRank, qLoraRank, qkNopeHeadDim, qkRopeHeadDim, vHeadDim, hiddenSize, nRoutedExperts } = config;
  const queries = nHeads * (qkNopeHeadDim + qkRopeHeadDim);
  const mtp = run.mtp && config.nMtpLayers > 0;
  const slots = mostSlots(config);
  const rows = (what: string, count: number, columns: number): { what: string; bytes: number } => ({
    what,
    bytes: count * roundUp(columns, CHUNK) * 4,
  });
  return [
    rows("absorbed queries", run.maxTokens, nHeads * (kvLoraRank + qkRopeHeadDim)),
    rows("attention partials", attentionPartialRows({ ...run, nHeads }), nHeads * (kvLoraRank + 4)),
    rows("queries", run.maxTokens, queries),
    rows("query latents", run.maxTokens, Math.max(1, qLoraRank)),
    rows("projected inputs", run.maxTokens, roundUp(qLoraRank > 0 ? qLoraRank : queries, SCALE_BLOCK) + kvLoraRank + qkRopeHeadDim),
    rows("attention output", run.maxTokens, nHeads * vHeadDim),
    rows("router logits", run.maxTokens, nRoutedExperts),
    rows("expert outputs", run.maxTokens * slots, hiddenSize),
    ...hiddenWidths(config).map((width) => rows("expert hidden states", run.maxTokens * slots, width)),
    { ...rows("residual stream or its norm", run.maxTokens, hiddenSize), buffers: mtp ? 7 : 3 },
    { ...rows("rows whose logits are wanted", run.maxOutputs, hiddenSize), buffers: 2 },
    rows("logits", run.maxOutputs, config.vocabSize),
    { what: "board", bytes: boardRoom(config, { ...run, experts: mostExperts(config) }) },
    ...(run.subgroupMatrix === true
      ? [
          {
            what: "split inputs",
            bytes: halvesRoom(config, { maxTokens: run.maxTokens, slots, experts: mostExperts(config), widths: hiddenWidths(config) }),
          },
          {
            what: "split hidden states",
            bytes: stripHalvesBytes({ tokens: run.maxTokens, slots, experts: mostExperts(config) }, Math.max(...hiddenWidths(config))),
          },
          { what: "split norms", bytes: normedHalvesBytes(config, run.maxTokens) },
        ]
      : []),
  ];
}

/** Experts of a token in the layer that has most. */
function mostSlots({ nLayers, nDenseLayers, nActivatedExperts, nSharedExperts, intermediateSize }: ModelConfig): number {
  const dense = nDenseLayers > 0 ? mlpSlices(intermediateSize).count : 0;
  return Math.max(1, dense, nLayers > nDenseLayers ? nActivatedExperts + nSharedExperts : 0);
}

/** Of the layer that has most, or a few more. */
function mostExperts({ nRoutedExperts, nSharedExperts, intermediateSize }: ModelConfig): number {
  return Math.max(nRoutedExperts + nSharedExperts, mlpSlices(intermediateSize).count);
}

/** Of the experts that are routed, and of dense layers cut into such. */
function hiddenWidths({ nLayers, nDenseLayers, moeIntermediateSize, intermediateSize }: ModelConfig): readonly number[] {
  const dense = nDenseLayers > 0 ? [mlpSlices(intermediateSize).width] : [];
  return nLayers > nDenseLayers ? [moeIntermediateSize, ...dense] : dense;
}

/**
 * Refuses what cannot run on an adapter, and says what is needed and what there is. Whether the memory itself is there no WebGPU limit tells; that shows while loading.
 * @throws AdapterLimitError
 */
export function checkAdapter(limits: BindingLimits, checkpoint: Pick<CheckpointSource, "config" | "tensors">, run: RunShape): void {
  const { config } = checkpoint;
  const most = bindingBytes(limits);
  const refuse = (what: string, bytes: number, hint: string): void => {
    if (bytes > most) throw new AdapterLimitError(what, "maxStorageBufferBindingSize", bytes, most, hint);
  };
  for (const { what, bytes } of activationBuffers(config, run))
    refuse(`hold the ${what} of ${run.maxTokens} tokens`, bytes, "compute fewer tokens at once (--chunk)");
  const kvTokens = run.kvTokens ?? run.contextTokens;
  const kvLayer = kvRowBytes(config, run.kvFormat) * roundUp(kvTokens, KV_BLOCK_SIZE);
  refuse(`keep ${kvTokens} tokens in a layer's KV cache`, kvLayer, "use a shorter context (--context)");
  const format = storedFormat(checkpoint);
  const expertBytes = (width: number): number =>
    Math.max(2 * width * roundUp(config.hiddenSize, CHUNK), config.hiddenSize * roundUp(width, CHUNK)) * FORMAT_BYTES[format];
  if (config.nLayers > config.nDenseLayers) expertsPerPage("one expert", expertBytes(config.moeIntermediateSize), 1, limits);
  if (config.nDenseLayers > 0) expertsPerPage("a slice of a dense layer", expertBytes(mlpSlices(config.intermediateSize).width), 1, limits);
  const kvB = config.nHeads * (config.qkNopeHeadDim + config.vHeadDim) * roundUp(config.kvLoraRank, CHUNK) * FORMAT_BYTES[format];
  refuse("load kv_b_proj", kvB, "it is used whole");
  const rowBytes = Math.max(config.hiddenSize, config.intermediateSize) * 4;
  refuse("load a row block of a matrix", rowBytes * SCALE_BLOCK, "");
}

function storedFormat({ config, tensors }: Pick<CheckpointSource, "config" | "tensors">): WeightFormat {
  const name = `model.layers.${config.nLayers - 1}.self_attn.kv_b_proj.weight`;
  const dtype = tensors.tensors.get(name)?.dtype;
  return dtype === "F8_E4M3" ? "fp8" : dtype === "F32" ? "f32" : "bf16";
}
