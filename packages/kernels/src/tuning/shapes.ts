/** The shapes that variants are measured at: those of published models, since the keys of tuning tables name classes of them, and of a layer of the embedded one. */
import type { MlaShape } from "../mla.ts";
import type { RouterSpec } from "../router/kernel.ts";
import type { WeightFormat } from "../weights.ts";

export type TuningSize = "small" | "full";

export interface TuningProduct {
  readonly what: string;
  readonly rows: number;
  /** A multiple of 16. */
  readonly cols: number;
  readonly format: WeightFormat;
}

export interface TuningGate {
  readonly spec: RouterSpec;
  readonly hidden: number;
  /** The experts read the normed input, written out. */
  readonly written: boolean;
}

/** A MoE layer so small that its attention can be one dispatch and its MLP another: none of the models below has one. */
export interface TuningLayer {
  readonly name: string;
  readonly hidden: number;
  readonly mla: MlaShape;
  readonly qLoraRank: number;
  readonly spec: RouterSpec;
  /** Of an expert. */
  readonly width: number;
}

export interface TuningShapes {
  readonly name: string;
  /** Products of decoding. */
  readonly products: readonly TuningProduct[];
  /** Of those, the ones of prefill. */
  readonly prefillProducts: readonly TuningProduct[];
  readonly experts: {
    readonly hidden: number;
    readonly width: number;
    /** As many as make caches too small for those that are chosen. */
    readonly count: number;
    /** Experts that a token takes. */
    readonly slots: number;
  };
  readonly gate: TuningGate;
  readonly mla: MlaShape;
  /** Positions that one decoded token attends to. */
  readonly contexts: readonly number[];
  /** Tokens of a decoding step. */
  readonly fewTokens: readonly number[];
  /** Tokens of steps of many sequences and of prefill. */
  readonly manyTokens: readonly number[];
  /** Tokens of a prefill whose attention and whose experts are measured. */
  readonly prefillTokens: number;
  /** Heights of the experts' tiles: about as many rows as an expert has in a step of many sequences, and in a prefill. */
  readonly batchTiles: readonly number[];
  readonly prefillTiles: readonly number[];
  readonly vocab: number;
}

/** Those that `expertTileRows` gives. */
const BATCH_TILES = [8, 16];
const PREFILL_TILES = [16, 32, 64, 128];

const product = (what: string, rows: number, cols: number, format: WeightFormat = "fp8"): TuningProduct => ({ what, rows, cols, format });

const V3_PRODUCTS = [
  product("q_a, kv_a", 2112, 7168),
  product("q_b", 24_576, 1536),
  product("o", 7168, 16_384),
  product("gate", 256, 7168, "bf16"),
];

const V3_ROUTER: RouterSpec = {
  nRoutedExperts: 256,
  nActivatedExperts: 8,
  nExpertGroups: 8,
  topkGroup: 4,
  scoreFunc: "sigmoid",
  groupScore: "top2sum",
  normTopkProb: true,
  routedScalingFactor: 2.5,
  sharedSlots: 1,
};
const LITE_ROUTER: RouterSpec = {
  nRoutedExperts: 64,
  nActivatedExperts: 6,
  nExpertGroups: 1,
  topkGroup: 1,
  scoreFunc: "softmax",
  groupScore: "max",
  normTopkProb: false,
  routedScalingFactor: 1,
  sharedSlots: 2,
};

/** 671B. */
const V3: TuningShapes = {
  name: "DeepSeek-V3",
  vocab: 129_280,
  products: [...V3_PRODUCTS, product("head", 129_280, 7168, "bf16")],
  prefillProducts: V3_PRODUCTS,
  experts: { hidden: 7168, width: 2048, count: 32, slots: 9 },
  gate: { spec: V3_ROUTER, hidden: 7168, written: true },
  mla: { nHeads: 128, qkNopeHeadDim: 128, qkRopeHeadDim: 64, vHeadDim: 128, kvLoraRank: 512 },
  contexts: [1024, 32_768],
  fewTokens: [1, 2, 4],
  manyTokens: [32, 512],
  prefillTokens: 128,
  batchTiles: BATCH_TILES,
  prefillTiles: PREFILL_TILES,
};

const LITE_PRODUCTS = [product("q, kv_a", 3648, 2048), product("o", 2048, 2048), product("gate", 64, 2048, "bf16")];

/** V2-Lite. */
const LITE: TuningShapes = {
  name: "DeepSeek-V2-Lite",
  vocab: 102_400,
  products: [...LITE_PRODUCTS, product("head", 102_400, 2048, "bf16")],
  prefillProducts: LITE_PRODUCTS,
  experts: { hidden: 2048, width: 1408, count: 64, slots: 8 },
  gate: { spec: LITE_ROUTER, hidden: 2048, written: false },
  mla: { nHeads: 16, qkNopeHeadDim: 128, qkRopeHeadDim: 64, vHeadDim: 128, kvLoraRank: 512 },
  contexts: [1024],
  fewTokens: [1, 2, 4],
  manyTokens: [32, 512],
  prefillTokens: 512,
  batchTiles: BATCH_TILES,
  prefillTiles: PREFILL_TILES,
};

const SMALL_PRODUCTS = [product("fp8", 512, 512), product("bf16", 1024, 256, "bf16")];

/** For software adapters: every operation, in a minute or two. */
const SMALL: TuningShapes = {
  name: "small",
  vocab: 1024,
  products: SMALL_PRODUCTS,
  prefillProducts: SMALL_PRODUCTS.slice(0, 1),
  experts: { hidden: 256, width: 128, count: 8, slots: 3 },
  gate: { spec: { ...V3_ROUTER, nRoutedExperts: 16, nActivatedExperts: 2, nExpertGroups: 4, topkGroup: 2 }, hidden: 256, written: true },
  mla: { nHeads: 8, qkNopeHeadDim: 32, qkRopeHeadDim: 16, vHeadDim: 32, kvLoraRank: 64 },
  contexts: [256],
  fewTokens: [1],
  manyTokens: [32],
  prefillTokens: 32,
  batchTiles: [16],
  prefillTiles: [16],
};

const EMBEDDED_LAYER: TuningLayer = {
  name: "embedded model",
  hidden: 256,
  mla: { nHeads: 6, qkNopeHeadDim: 64, qkRopeHeadDim: 32, vHeadDim: 64, kvLoraRank: 128 },
  qLoraRank: 128,
  spec: { ...V3_ROUTER, nRoutedExperts: 32, nActivatedExperts: 4, nExpertGroups: 4, topkGroup: 2 },
  width: 128,
};

/** For software adapters, whose compilers unroll it all. */
const SMALL_LAYER: TuningLayer = {
  name: "small",
  hidden: 128,
  mla: { nHeads: 2, qkNopeHeadDim: 32, qkRopeHeadDim: 16, vHeadDim: 32, kvLoraRank: 64 },
  qLoraRank: 64,
  spec: SMALL.gate.spec,
  width: 64,
};

export function smallLayer(size: TuningSize): TuningLayer {
  return size === "small" ? SMALL_LAYER : EMBEDDED_LAYER;
}

/** @param quick one token in a decoding step, one short context: about a third of the time */
export function tuningShapes(size: TuningSize, quick: boolean): readonly TuningShapes[] {
  if (size === "small") return [SMALL];
  const all = [V3, LITE];
  return quick ? all.map((shapes) => ({ ...shapes, contexts: shapes.contexts.slice(0, 1), fewTokens: [1] })) : all;
}
