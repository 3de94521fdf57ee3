/** Attention of a layer: from the residual stream to the residual stream, and the cache's rows besides. */
import { softmaxScale } from "@shoal/checkpoint";
import {
  attendsInHalves,
  attendsInSublayer,
  attendsTogether,
  attentionBoardBytes,
  attentionSublayer,
  exactAttention,
  exactOutput,
  exactQAbsorb,
  type HalvesRows,
  type KvWriteSpec,
  kvWrite,
  mlaAttend,
  mlaAttention,
  mlaOutput,
  outputsInHalves,
  type ValueHalves,
  type KvCache,
  type WeightMatrix,
  qAbsorb,
} from "@shoal/kernels";
import { type Matrix2D, SUBLAYER_BOARD } from "../activations.ts";
import { mlaShape } from "../kvCache.ts";
import type { Recorder } from "../recorder.ts";
import type { AttentionWeights, LayerWeights } from "../weights/layer.ts";
import { residualInput } from "./input.ts";

/** All that later steps need of these rows: nothing else is computed. */
export function recordCacheRows(recorder: Recorder, { attention }: LayerWeights, cache: KvCache): void {
  const write = recordAttentionInput(recorder, attention, cache);
  recorder.add(kvWrite(recorder.gpu, { ...write, exact: recorder.exact, label: "KV write" }));
}

/** The projections of the residual stream. @returns how the cache's rows are made of them */
function recordAttentionInput(recorder: Recorder, weights: AttentionWeights, cache: KvCache): KvWriteSpec {
  const { config, activations, tokens } = recorder;
  const { step, projected } = activations;
  const input = residualInput(recorder, weights.inputNorm, config.rmsNormEps, "attention");
  for (const { matrix, outputStart } of weights.input.matrices) input.linear(matrix, projected, "attention input", { outputStart });
  const [, xOffset = 0] = weights.input.starts;
  const latent = { x: projected.buffer, xStride: projected.stride, xOffset, gamma: weights.kvNorm, epsilon: config.latentNormEps };
  return { shape: mlaShape(config), step, cache, ...latent, tokens };
}

export function recordAttention(recorder: Recorder, weights: AttentionWeights, cache: KvCache): void {
  if (recordAttentionSublayer(recorder, weights, cache)) return;
  const { gpu, config, activations, tokens } = recorder;
  const { projected, residual } = activations;
  const write = recordAttentionInput(recorder, weights, cache);

  let query: Matrix2D = projected;
  if (weights.query) {
    const { queryLatent } = activations;
    const queryInput = recorder.normedInput(
      {
        input: projected,
        columns: config.qLoraRank,
        gamma: weights.query.norm,
        epsilon: config.latentNormEps,
        normed: queryLatent,
        quantized: queryLatent,
      },
      "query",
    );
    query = activations.query;
    queryInput.linear(weights.query.projection, query, "query");
  }

  const { attention } = activations;
  const written = attendedHalves(recorder, weights);
  let inHalves = written !== undefined;
  if (!recordTogether(recorder, weights.kvB, write, query, written)) {
    recorder.add(kvWrite(gpu, { ...write, exact: recorder.exact, label: "KV write" }));
    inHalves = recordAttend(recorder, weights.kvB, cache, query, written && { ...written, gamma: weights.kvNorm });
  }

  if (recorder.quantizes(weights.output.format))
    recorder.quantize(attention, config.nHeads * config.vHeadDim, tokens, "attention output quantize");
  recorder.linear(weights.output, attention, residual, {
    residual: true,
    label: "attention output",
    written: inHalves ? written : undefined,
  });
}

/**
 * The longest context whose steps may attend so; of longer ones those that are short may. A head's workgroup reads all that is before the token: the embedded model's attention takes an H100 14 us after 100
 * positions, where several dispatches take 21; 27 and 47 after 1,000, 33 and 40 after 1,500, 41 and 36 after 2,040.
 */
const SUBLAYER_POSITIONS = 2048;

/** All of it in one dispatch. @returns whether the step, the layer and the device are fit for it */
function recordAttentionSublayer(recorder: Recorder, weights: AttentionWeights, cache: KvCache): boolean {
  const { gpu, config, activations, tokens, exact, short } = recorder;
  const { step, residual, board } = activations;
  const { norms, kvNorm, query, kvB, output } = weights;
  const [input, ...more] = weights.input.matrices;
  const [, kvStart = 0] = weights.input.starts;
  if (attentionBoardBytes(config.nHeads, config.hiddenSize) > SUBLAYER_BOARD) return false;
  if (tokens !== 1 || exact || !query || !input || more.length > 0) return false;
  if (!short && step.blocksPerSequence * cache.blockSize > SUBLAYER_POSITIONS) return false;
  const matrices = { input: input.matrix, kvStart, queryB: query.projection, kvB, output };
  const norm = { buffer: norms, queryStart: query.norm.offset / 4, latentStart: kvNorm.offset / 4 };
  const epsilons = { epsilon: config.rmsNormEps, latentEpsilon: config.latentNormEps };
  const rest = { step, cache, x: residual.buffer, norms: norm, ...epsilons, softmaxScale: softmaxScale(config), board, label: "attention" };
  const spec = { shape: mlaShape(config), qLoraRank: config.qLoraRank, ...matrices, ...rest };
  if (!attendsInSublayer(gpu, spec)) return false;
  recorder.add(attentionSublayer(gpu, spec));
  return true;
}

/** Where attention can write its values as the output projection wants them, if what runs does. */
function attendedHalves(recorder: Recorder, { kvB, output }: AttentionWeights): HalvesRows | undefined {
  const buffer = recorder.activations.halves;
  const layout = recorder.wants(output);
  return buffer && layout && attendsInHalves(recorder.gpu, kvB, layout) ? { buffer, layout } : undefined;
}

/** From the queries to the heads' values in one dispatch, cache write included. @returns whether the step and the device are fit for it */
function recordTogether(
  recorder: Recorder,
  kvB: WeightMatrix,
  write: KvWriteSpec,
  query: Matrix2D,
  halves: HalvesRows | undefined,
): boolean {
  const { gpu, config, activations, exact, short } = recorder;
  const { attention, absorbed, partial } = activations;
  const scratch = { absorbed: absorbed.buffer, partial };
  const attend = { q: query.buffer, qStride: query.stride, softmaxScale: softmaxScale(config), kvB };
  const spec = { ...write, ...attend, out: attention.buffer, outStride: attention.stride, halves, scratch, label: "attention" };
  if (exact || !short || !attendsTogether(gpu, spec)) return false;
  recorder.add(mlaAttend(gpu, spec));
  return true;
}

/** From the queries to the heads' values, in `activations.attention` or as halves. @returns which */
function recordAttend(recorder: Recorder, kvB: WeightMatrix, cache: KvCache, query: Matrix2D, halves: ValueHalves | undefined): boolean {
  const { gpu, config, activations, tokens, exact } = recorder;
  const { step, absorbed, partial, attention } = activations;
  const shape = mlaShape(config);
  const absorb = { shape, step, kvB, q: query.buffer, qStride: query.stride, out: absorbed.buffer, outStride: absorbed.stride, tokens };
  const attend = { shape, step, cache, q: absorbed.buffer, qStride: absorbed.stride, softmaxScale: softmaxScale(config), tokens };
  const project = { shape, step, kvB, out: attention.buffer, outStride: attention.stride, tokens };
  const labels = ["query absorption", "attention", "attention values"].map((label) => ({ label }));
  if (exact) {
    recorder.add(exactQAbsorb(gpu, { ...absorb, ...labels[0] }));
    recorder.add(exactAttention(gpu, { ...attend, attended: partial, ...labels[1] }));
    recorder.add(exactOutput(gpu, { ...project, attended: partial, ...labels[2] }));
    return false;
  }
  const splits = activations.splits(tokens);
  recorder.add(qAbsorb(gpu, { ...absorb, ...labels[0] }));
  recorder.add(mlaAttention(gpu, { ...attend, partial, splits, ...labels[1] }));
  const inHalves = halves !== undefined && outputsInHalves(gpu, { ...project, splits }, halves.layout);
  recorder.add(mlaOutput(gpu, { ...project, partial, splits, halves: inHalves ? halves : undefined, ...labels[2] }));
  return inHalves;
}
