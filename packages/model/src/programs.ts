/**
 * Whole steps as lists of commands, made once for each shape of step and kept. Bind groups depend on buffers alone, so another token count brings new grids and
 * nothing else.
 */
import type { ModelConfig } from "@shoal/checkpoint";
import type { BufferRange, GpuContext } from "@shoal/gpu";
import {
  type EmbeddingSpec,
  adjustLogits,
  countTokens,
  embedding,
  gatherRows,
  logprobs,
  mtpInput,
  sample,
  settleDrafts,
  type StepBuffers,
  type WeightMatrix,
} from "@shoal/kernels";
import { type Activations, DECODE_TOKENS, type Matrix2D } from "./activations.ts";
import type { PagedKvCache } from "./kvCache.ts";
import { recordAttention, recordCacheRows } from "./layer/attention.ts";
import { recordLayer } from "./layer/layer.ts";
import { recordMlp } from "./layer/mlp.ts";
import type { LogitAdjuster } from "./logitAdjuster.ts";
import { type NumericMode, type RecordedStep, Recorder } from "./recorder.ts";
import type { SamplerBuffers } from "./sampler.ts";
import type { StepRing } from "./stepRing.ts";
import type { Captured, Trace } from "./trace.ts";
import type { ModelWeights } from "./weights/model.ts";

export interface StepShape {
  readonly kind: "forward" | "draft";
  /** Of a draft: how many were made after the step before, which it goes on from; 0 by default. */
  readonly depth?: number;
  /** Of a draft: another goes on from it; false by default. */
  readonly recycles?: boolean;
  readonly tokens: number;
  /** Rows whose logits are computed. */
  readonly outputs: number;
  /** Output row i is batch row i. */
  readonly identity: boolean;
  /** Rows attend to few positions (`isShortContext`). */
  readonly short: boolean;
  readonly choose: "none" | "greedy" | "sample";
  readonly capture: Captured;
  /** Some rows have bias, penalties or a mask; false by default. */
  readonly adjusts?: boolean;
  /** Log-probabilities are kept; false by default. */
  readonly logprobs?: boolean;
  /** `Batch.chain`; false by default. */
  readonly chain?: boolean;
}

export interface ProgramParts {
  readonly gpu: GpuContext;
  readonly config: ModelConfig;
  readonly weights: ModelWeights;
  readonly kv: PagedKvCache;
  readonly activations: Activations;
  readonly mode: NumericMode;
  readonly recycling: MtpRecycling;
  readonly sampler: SamplerBuffers;
  /** The MTP module's own: its choices never feed the main model. */
  readonly draftSampler: SamplerBuffers;
  readonly adjuster: LogitAdjuster;
  readonly logprobRing: StepRing;
  /** Of the first draft after a step, the second, ...: each with a batch of its own and the MTP module's block table (mtpWindow.ts); none without an MTP module. */
  readonly draftSteps: readonly StepBuffers[];
  /** What chained steps leave for the next; absent without an MTP module. */
  readonly settled: GPUBuffer | undefined;
}

/**
 * What of itself the MTP module takes in place of the main model's normed state for a further draft: its output after shared_head.norm, which stands where that norm does, or before.
 * Implementations differ, and the published one drafts no further; only how often drafts are right depends on it.
 */
export type MtpRecycling = "post-norm" | "pre-norm";

/** More shapes than this are only seen with prompts of ever new lengths; the oldest is then forgotten. */
const KEPT_PROGRAMS = 64;

export class Programs {
  readonly #parts: ProgramParts;
  readonly #programs = new Map<string, RecordedStep>();

  constructor(parts: ProgramParts) {
    this.#parts = parts;
  }

  async get(shape: StepShape, trace?: Trace): Promise<RecordedStep> {
    const {
      kind,
      depth = 0,
      recycles = false,
      tokens,
      outputs,
      identity,
      short,
      choose,
      capture,
      adjusts = false,
      logprobs: keeps = false,
      chain = false,
    } = shape;
    const key = [kind, depth, recycles, tokens, outputs, identity, short, choose, capture, adjusts, keeps, chain].join(" ");
    let program = this.#programs.get(key);
    if (!program) {
      program = shape.kind === "forward" ? await recordForward(this.#parts, shape, trace) : await recordDraft(this.#parts, shape);
      const [oldest] = this.#programs.keys();
      if (this.#programs.size >= KEPT_PROGRAMS && oldest !== undefined) this.#programs.delete(oldest);
      this.#programs.set(key, program);
    }
    return program;
  }
}

function recordForward(parts: ProgramParts, shape: StepShape, trace: Trace | undefined): Promise<RecordedStep> {
  const { gpu, config, weights, kv, activations, mode } = parts;
  const { tokens } = shape;
  const recorder = new Recorder(gpu, config, activations, mode, tokens, shape.short);
  const { residual, finalNormed } = activations;
  const chained = shape.chain === true ? chainedBuffers(parts) : undefined;
  if (weights.embedding && weights.layers[0]?.index === 0) recordEmbedding(recorder, parts, weights.embedding, residual, chained);
  for (const [index, layer] of weights.layers.entries()) {
    const cache = kv.layers[index];
    if (!cache) throw new RangeError(`No KV cache for layer ${layer.index}`);
    recordLayer(recorder, layer, cache);
    if (shape.capture !== "nothing") trace?.record(recorder, index, shape.capture);
  }
  if (weights.head && weights.mtp)
    recorder.norm(residual, finalNormed, config.hiddenSize, weights.head.norm, config.rmsNormEps, "final norm");
  if (weights.head && shape.outputs > 0) recordHead(recorder, parts, shape, weights.head.norm, weights.head.projection, parts.sampler);
  if (chained) {
    const { lastTokens } = parts.sampler;
    const { lastTokens: lastDrafts, slotStride: draftStride } = parts.draftSampler;
    recorder.add(settleDrafts(gpu, { step: activations.step, ...chained, lastTokens, lastDrafts, draftStride, label: "right drafts" }));
  }
  return recorder.recorded();
}

type ChainedBuffers = NonNullable<EmbeddingSpec["chained"]>;

/** What a chained step leaves for the next. */
function chainedBuffers({ sampler: { ring }, settled }: ProgramParts): ChainedBuffers {
  if (!settled) throw new RangeError("This stage has no MTP module");
  return { ring: ring.buffer, ringRows: ring.rows, settled };
}

/**
 * DeepSeek-V3, arXiv 2412.19437, section 2.2, with the order of the concatenation that the published weights have: embedding first. The module is one layer: of rows that nothing is drafted
 * after it needs what its cache has of them, and no more.
 */
function recordDraft(parts: ProgramParts, shape: StepShape): Promise<RecordedStep> {
  const { gpu, config, weights, kv, mode, draftSteps } = parts;
  const { mtp, head, embedding: table } = weights;
  const cache = kv.layers[weights.layers.length];
  const step = draftSteps[shape.depth ?? 0];
  if (!mtp || !head || !table || !cache || !step) throw new RangeError("This stage has no MTP module");
  const activations = { ...parts.activations, step };
  const recorder = new Recorder(gpu, config, activations, mode, shape.tokens, shape.short);
  const { mtpEmbedding, mtpInput: joined, finalNormed, recycled, residual } = activations;
  const before = (shape.depth ?? 0) > 0 ? recycled : finalNormed;
  recordEmbedding(recorder, parts, table, mtpEmbedding, shape.chain === true ? chainedBuffers(parts) : undefined);
  recorder.add(
    mtpInput(gpu, {
      embedding: mtpEmbedding.buffer,
      step: activations.step,
      hidden: before.buffer,
      stride: before.stride,
      enormGamma: mtp.enorm,
      hnormGamma: mtp.hnorm,
      epsilon: config.rmsNormEps,
      cols: config.hiddenSize,
      out: joined.buffer,
      outStride: joined.stride,
      tokens: shape.tokens,
      exact: recorder.exact,
      label: "MTP input",
    }),
  );
  recorder.linear(mtp.ehProj, joined, residual, { label: "MTP projection" });
  if (shape.outputs === 0) {
    recordCacheRows(recorder, mtp.layer, cache);
    return recorder.recorded();
  }
  recordAttention(recorder, mtp.layer.attention, cache);
  const few = outputRows(recorder, parts, shape);
  const [rows, left] = few ? [few, { ...shape, identity: true }] : [recorder, shape];
  recordMlp(rows, mtp.layer);
  if (shape.recycles === true) recordRecycled(rows, parts, left, mtp.norm);
  recordHead(rows, parts, left, mtp.norm, head.projection, parts.draftSampler);
  if (few) recorder.add(few.recorded().then(({ commands }) => commands));
  return recorder.recorded();
}

/**
 * Goes on with the rows alone that something is drafted after: in place of the residual stream they lie in `activations.outputs`. Undefined where all are such rows; where they are so many
 * that kernels ask the batch how many rows there are; and where they are wanted in their places, by experts elsewhere or as states before the norm.
 */
function outputRows(recorder: Recorder, { recycling, weights: { mtp } }: ProgramParts, shape: StepShape): Recorder | undefined {
  const { gpu, config, activations, mode } = recorder;
  const { outputs, identity, short, recycles = false } = shape;
  const { routed } = mtp?.layer.mlp ?? {};
  if (identity || outputs > DECODE_TOKENS || (routed && !routed.group) || (recycles && recycling === "pre-norm")) return undefined;
  recordGather(recorder, outputs);
  return new Recorder(gpu, config, { ...activations, residual: activations.outputs }, mode, outputs, short);
}

function recordGather(recorder: Recorder, outputs: number): void {
  const { gpu, config, activations } = recorder;
  const { residual: x, outputs: out, step } = activations;
  const spec = { x: x.buffer, xStride: x.stride, cols: config.hiddenSize, out: out.buffer, outStride: out.stride };
  recorder.add(gatherRows(gpu, { ...spec, step, outputs, label: "gather outputs" }));
}

/** The module's state in its output rows, for the next draft. */
function recordRecycled(recorder: Recorder, { recycling }: ProgramParts, shape: StepShape, gamma: BufferRange): void {
  const { gpu, config, activations } = recorder;
  const { residual, outputsNormed, recycled, step } = activations;
  const { outputs } = shape;
  const normed = recycling === "post-norm";
  const gathered = normed ? outputsNormed : recycled;
  const spec = { x: residual.buffer, xStride: residual.stride, cols: config.hiddenSize, out: gathered.buffer, outStride: gathered.stride };
  const inPlace = normed && shape.identity;
  if (!inPlace) recorder.add(gatherRows(gpu, { ...spec, step, outputs, label: "gather MTP state" }));
  if (normed)
    recorder.norm(inPlace ? residual : gathered, recycled, config.hiddenSize, gamma, config.rmsNormEps, "MTP state norm", outputs);
}

function recordEmbedding(
  recorder: Recorder,
  parts: ProgramParts,
  table: WeightMatrix,
  out: Matrix2D,
  chained: ChainedBuffers | undefined,
): void {
  const { gpu, activations, tokens } = recorder;
  const { lastTokens: lastDrafts, slotStride: draftStride } = parts.draftSampler;
  const latest = { lastTokens: parts.sampler.lastTokens, lastDrafts, draftStride };
  const spec = { table, step: activations.step, ...latest, chained, out: out.buffer, outStride: out.stride, tokens };
  recorder.add(embedding(gpu, { ...spec, label: "embedding" }));
}

function recordHead(
  recorder: Recorder,
  parts: ProgramParts,
  shape: StepShape,
  gamma: BufferRange,
  projection: WeightMatrix,
  sampler: SamplerBuffers,
): void {
  const { gpu, config, activations } = recorder;
  const { residual, outputs: gathered, outputsNormed, logits, step, board } = activations;
  const { outputs, choose } = shape;
  const rows = shape.identity ? residual : gathered;
  if (!shape.identity) recordGather(recorder, outputs);
  const head = new Recorder(gpu, config, activations, parts.mode, outputs);
  const input = head.normedInput(
    { input: rows, columns: config.hiddenSize, gamma, epsilon: config.rmsNormEps, normed: outputsNormed, quantized: outputsNormed },
    "head",
  );
  input.linear(projection, logits, "head", { rows: "outputs" });
  recorder.add(head.recorded().then(({ commands }) => commands));
  if (choose === "none") return;
  const { params, ring, scratch, slotStride } = sampler;
  const lastTokens = { buffer: sampler.lastTokens, offset: (shape.depth ?? 0) * slotStride * 4, size: slotStride * 4 };
  const common = { vocab: config.vocabSize, step, outputs, params, ring: ring.buffer, ringRows: ring.rows } as const;
  const raw = { logits: logits.buffer, logitsStride: logits.stride };
  const adjuster = shape.adjusts === true ? parts.adjuster.buffers : undefined;
  if (adjuster) recorder.add(adjustLogits(gpu, { ...raw, ...common, ...adjuster, label: "adjust logits" }));
  const ahead = shape.kind === "draft" ? 2 : 1;
  const chosenFrom = { logits: adjuster?.adjusted ?? logits.buffer, logitsStride: logits.stride };
  recorder.add(sample(gpu, { ...chosenFrom, ...common, lastTokens, scratch, board, mode: choose, ahead, label: "sample" }));
  if (adjuster) recorder.add(countTokens(gpu, { ...common, history: adjuster.history, label: "count tokens" }));
  if (shape.logprobs === true)
    recorder.add(logprobs(gpu, { ...raw, ...common, logprobs: parts.logprobRing.buffer, label: "log-probabilities" }));
}
