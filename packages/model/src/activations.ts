/**
 * The buffers that a step computes in, sized once for the largest step. Rows are tokens; strides are rounded up to 16 elements, and padding stays zero, because
 * nothing ever writes it.
 */
import { type ModelConfig, cosSinScale, ropeInvFreq } from "@shoal/checkpoint";
import type { GpuContext } from "@shoal/gpu";
import {
  CHUNK,
  LOWEST_EXPERT_TILE,
  type StepBuffers,
  attentionPartialRows,
  attentionSplits,
  batchBytes,
  encodeRouting,
  expertTiles,
  gateBoardBytes,
  halvesBytes,
  partialBytes,
  placeBoardBytes,
  placedRowsBytes,
  ropeTable,
  sampleBoardBytes,
  roundUp,
  stripHalvesBytes,
} from "@shoal/kernels";
import { type PagedKvCache, mlaShape } from "./kvCache.ts";
import type { LayerWeights, MlpWeights } from "./weights/layer.ts";

/** Tokens up to which a step is "decoding": weights are read once for all of them. */
export const DECODE_TOKENS = 4;
/** Steps whose sampled tokens are kept until read. */
export const RING_STEPS = 64;

/** Bytes of the board that small layers get, whose sublayers are a dispatch each: larger ones do without. */
export const SUBLAYER_BOARD = 2 ** 16;

export interface Matrix2D {
  readonly buffer: GPUBuffer;
  /** Elements from one row to the next. */
  readonly stride: number;
}

export interface Activations {
  readonly step: StepBuffers;
  readonly maxTokens: number;
  readonly maxOutputs: number;
  /** Residual stream [tokens, hidden]. */
  readonly residual: Matrix2D;
  /** Normalized copies of it. */
  readonly normed: Matrix2D;
  /** The same, quantized (w8a8). */
  readonly quantized: Matrix2D;
  /** Outputs of the input projections. */
  readonly projected: Matrix2D;
  readonly queryLatent: Matrix2D;
  readonly query: Matrix2D;
  /** [tokens, heads, kvLoraRank + qkRopeHeadDim] */
  readonly absorbed: Matrix2D;
  readonly partial: GPUBuffer;
  /** Ranges that attention splits each token's positions into, in a step of so many tokens; `partial` has room for them. */
  readonly splits: (tokens: number) => number;
  readonly attention: Matrix2D;
  readonly routerLogits: Matrix2D;
  /** Where workgroups of a dispatch meet: zeros between dispatches. */
  readonly board: GPUBuffer;
  /** [tokens, slots] pairs. */
  readonly routing: GPUBuffer;
  /** [tokens * slots, width] for the routed or the fixed experts of a layer. */
  readonly expertHidden: (which: "routed" | "fixed", width: number) => Matrix2D;
  /** [tokens * slots, hidden] */
  readonly expertOut: Matrix2D;
  /** Inputs of products by subgroup matrices, split; absent where the device has none. */
  readonly halves: GPUBuffer | undefined;
  /** Normalized inputs, split as they are written; absent likewise. */
  readonly normedHalves: GPUBuffer | undefined;
  /** What gate and up make, likewise; absent where no batch is computed so. */
  readonly hiddenHalves: GPUBuffer | undefined;
  readonly tiles: GPUBuffer;
  readonly tileRows: GPUBuffer;
  /** Where routed experts are somewhere else: what they get, and what comes back. */
  readonly given?: GivenExperts;
  /** [outputs, hidden] rows whose logits are wanted. */
  readonly outputs: Matrix2D;
  readonly outputsNormed: Matrix2D;
  readonly logits: Matrix2D;
  /** Hidden states after the last norm, for the MTP module. */
  readonly finalNormed: Matrix2D;
  /** Of the MTP module's outputs [outputs, hidden], for its next draft. */
  readonly recycled: Matrix2D;
  /** [tokens, 2 * hidden], and the embedding before it. */
  readonly mtpEmbedding: Matrix2D;
  readonly mtpInput: Matrix2D;
}

export interface GivenExperts {
  /** A layer's routing and normalized input, to be read at once: [tokens, slots] pairs, then the input at the stride of `normed`. */
  readonly out: GPUBuffer;
  /** [tokens, hidden]: sums of the experts' outputs. */
  readonly sums: Matrix2D;
  /** [maxTokens, 1] pairs: "expert" 0 with weight 1. */
  readonly once: GPUBuffer;
}

export interface ActivationOptions {
  readonly config: ModelConfig;
  readonly layers: readonly LayerWeights[];
  readonly kv: PagedKvCache;
  readonly maxTokens: number;
  readonly maxOutputs: number;
  readonly hasHead: boolean;
  readonly hasMtp: boolean;
}

export function createActivations(gpu: GpuContext, options: ActivationOptions): Activations {
  const { config, layers, kv, maxTokens, maxOutputs, hasHead, hasMtp } = options;
  const { hiddenSize, nHeads, qkNopeHeadDim, qkRopeHeadDim, vHeadDim, kvLoraRank, qLoraRank, vocabSize, nRoutedExperts } = config;
  const matrix = (label: string, rows: number, columns: number): Matrix2D => {
    const stride = roundUp(columns, CHUNK);
    return { stride, buffer: gpu.buffer({ label, size: rows * stride * 4, kind: "activations" }) };
  };
  const mlps = layers.map(({ mlp }) => mlp);
  const slots = Math.max(1, ...mlps.map((mlp) => mostSlots(mlp, config.nActivatedExperts)));
  const widths = mlps.flatMap(({ routed, fixed }) => [routed?.group?.width ?? 0, fixed?.group.width ?? 0]);
  const experts = Math.max(1, ...mlps.map(({ routed, fixed }) => Math.max(routed?.group?.count ?? 0, fixed?.group.count ?? 0)));
  const tiles = expertTiles({ maxTokens, slots, experts, tileRows: LOWEST_EXPERT_TILE });
  const scratch = (label: string, size: number): GPUBuffer => gpu.buffer({ label, size, kind: "activations" });
  // One buffer for each width: another width's columns would be this one's padding.
  const byWidth = new Map<string, Matrix2D>();
  const table = ropeTable(ropeInvFreq(config), kv.contextTokens, cosSinScale(config));
  const shape = mlaShape(config);
  const { contextTokens } = kv;
  const gives = mlps.some(({ routed }) => routed && !routed.group);
  const normed = matrix("normed", maxTokens, hiddenSize);
  const hiddenBytes = stripHalvesBytes({ tokens: maxTokens, slots, experts }, Math.max(...widths));
  const once = Array.from({ length: maxTokens }, () => ({ expert: 0, weight: 1 }));
  return {
    step: {
      batch: gpu.buffer({ label: "batch", size: batchBytes(maxTokens), kind: "tables" }),
      maxTokens,
      blockTable: kv.blockTable,
      blocksPerSequence: kv.blocksPerSequence,
      ropeTable: gpu.upload("rope table", table, "tables"),
    },
    maxTokens,
    maxOutputs,
    residual: matrix("residual", maxTokens, hiddenSize),
    normed,
    ...(gives && {
      given: {
        out: scratch("given to experts", maxTokens * slots * 8 + normed.buffer.size),
        sums: matrix("sums of experts", maxTokens, hiddenSize),
        once: gpu.upload("routing of sums", encodeRouting(once), "tables"),
      },
    }),
    quantized: matrix("quantized", maxTokens, hiddenSize),
    projected: matrix("projected", maxTokens, Math.max(1, ...layers.map(({ attention }) => attention.input.outputs))),
    queryLatent: matrix("query latent", maxTokens, Math.max(1, qLoraRank)),
    query: matrix("query", maxTokens, nHeads * (qkNopeHeadDim + qkRopeHeadDim)),
    absorbed: matrix("absorbed query", maxTokens, nHeads * (kvLoraRank + qkRopeHeadDim)),
    partial: scratch("attention partials", partialBytes(shape, attentionPartialRows({ nHeads, maxTokens, contextTokens }), 1)),
    splits: (tokens) => attentionSplits(gpu, { nHeads, tokens, contextTokens }),
    attention: matrix("attention", maxTokens, nHeads * vHeadDim),
    routerLogits: matrix("router logits", maxTokens, nRoutedExperts),
    board: scratch("board", boardRoom(config, { maxTokens, maxOutputs: hasHead ? maxOutputs : 0, experts })),
    routing: scratch("routing", maxTokens * slots * 8),
    expertHidden: (which, width) => {
      const key = `${which} experts' hidden ${width}`;
      const hidden = byWidth.get(key) ?? matrix(key, maxTokens * slots, width);
      byWidth.set(key, hidden);
      return hidden;
    },
    expertOut: matrix("expert out", maxTokens * slots, hiddenSize),
    halves: gpu.dialect.subgroupMatrix && scratch("halves", halvesRoom(config, { maxTokens, slots, experts, widths })),
    normedHalves: gpu.dialect.subgroupMatrix && scratch("normed halves", normedHalvesBytes(config, maxTokens)),
    hiddenHalves: gpu.dialect.subgroupMatrix && hiddenBytes > 0 ? scratch("hidden halves", hiddenBytes) : undefined,
    tiles: scratch("expert tiles", tiles.tilesBytes),
    tileRows: scratch("expert tile rows", Math.max(tiles.rowsBytes, placedRowsBytes({ tokens: maxTokens, slots, experts }))),
    outputs: matrix("outputs", hasHead ? maxOutputs : 1, hiddenSize),
    outputsNormed: matrix("outputs normed", hasHead ? maxOutputs : 1, hiddenSize),
    logits: matrix("logits", hasHead ? maxOutputs : 1, hasHead ? vocabSize : 1),
    finalNormed: matrix("final normed", hasMtp ? maxTokens : 1, hiddenSize),
    recycled: matrix("recycled", hasMtp ? maxOutputs : 1, hiddenSize),
    mtpEmbedding: matrix("MTP embedding", hasMtp ? maxTokens : 1, hiddenSize),
    mtpInput: matrix("MTP input", hasMtp ? maxTokens : 1, 2 * hiddenSize),
  };
}

function mostSlots({ routed, fixed }: MlpWeights, nActivatedExperts: number): number {
  return Math.max(routed ? nActivatedExperts + routed.sharedSlots : 0, fixed ? fixed.group.count : 0);
}

export interface SplitInputs {
  readonly maxTokens: number;
  /** Experts that a token takes at most, and experts of a layer. */
  readonly slots: number;
  readonly experts: number;
  /** Of experts. */
  readonly widths: readonly number[];
}

/** Bytes of `halves`, for the largest input of any product. */
export function halvesRoom(config: ModelConfig, { maxTokens, slots, experts, widths }: SplitInputs): number {
  const { hiddenSize, nHeads, vHeadDim, qLoraRank } = config;
  const columns = Math.max(2 * hiddenSize, nHeads * vHeadDim, qLoraRank);
  return Math.max(
    halvesBytes({ rows: maxTokens, columns, blocks: true }),
    halvesBytes({ rows: maxTokens * slots, columns: Math.max(...widths) }),
    stripHalvesBytes({ tokens: maxTokens, slots, experts }, Math.max(hiddenSize, ...widths)),
  );
}

/** Bytes of `board`. @param experts of a layer */
export function boardRoom(
  { nRoutedExperts, vocabSize }: ModelConfig,
  { maxTokens, maxOutputs, experts }: { readonly maxTokens: number; readonly maxOutputs: number; readonly experts: number },
): number {
  return Math.max(
    gateBoardBytes(nRoutedExperts, Math.min(maxTokens, DECODE_TOKENS)),
    placeBoardBytes(experts),
    sampleBoardBytes(vocabSize, maxOutputs),
    SUBLAYER_BOARD,
  );
}

/** Bytes of `normedHalves`. */
export function normedHalvesBytes({ hiddenSize, qLoraRank }: ModelConfig, maxTokens: number): number {
  return halvesBytes({ rows: maxTokens, columns: Math.max(hiddenSize, qLoraRank), blocks: true });
}
