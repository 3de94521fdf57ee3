/** Batches, step outputs and KV snapshots as bodies of frames, and back. */
import type { Batch, BatchEntry, KvSnapshot, RoutingCapture, SamplingParameters, SequenceSlot, StepOutput } from "@shoal/model";
import type { z } from "zod";
import { type ActivationFormat, Tensor, expectTensor } from "../wire/tensor.ts";
import type * as schemas from "./schemas.ts";

type Floats = Float32Array<ArrayBuffer>;

/** Rows of a step that an entry takes. */
export function entryRows({ tokens, verify = 0 }: Pick<BatchEntry, "tokens" | "verify">): number {
  return (tokens === "sampled" ? 1 : tokens.length) + verify;
}

export function batchBody({ entries, output, capture, drafts, logprobs, chain }: Batch, activations: ActivationFormat): object {
  return {
    batch: {
      entries: entries.map(({ hidden, masks, ...entry }) => ({
        ...entry,
        ...(masks && { masks: masksTensor(masks) }),
        ...(hidden && { hidden: matrix(hidden, entryRows(entry), activations) }),
      })),
      output,
      ...(capture && { capture }),
      ...(drafts !== undefined && { drafts }),
      ...(logprobs !== undefined && { logprobs }),
      ...(chain !== undefined && { chain }),
    },
    activations,
  };
}

export function batchOf({ entries, output, capture, drafts, logprobs, chain }: z.infer<typeof schemas.batch>): Batch {
  return {
    entries: entries.map(({ sequence, tokens, hidden, quiet, verify, masks, followedBy, draftAfter, draftFrom }) => ({
      sequence: sequence as SequenceSlot,
      tokens,
      ...(hidden && { hidden: expectTensor("hidden", hidden, "f32", [-1, -1]) }),
      ...(quiet !== undefined && { quiet }),
      ...(verify !== undefined && { verify }),
      ...(masks && { masks: masksOf(masks) }),
      ...(followedBy && { followedBy }),
      ...(draftAfter !== undefined && { draftAfter }),
      ...(draftFrom !== undefined && { draftFrom }),
    })),
    output,
    ...(capture && {
      capture: {
        ...(capture.hidden !== undefined && { hidden: capture.hidden }),
        ...(capture.routing !== undefined && { routing: capture.routing }),
      },
    }),
    ...(drafts !== undefined && { drafts }),
    ...(logprobs !== undefined && { logprobs }),
    ...(chain !== undefined && { chain }),
  };
}

/** A step's output as it travels: numbers and tensors. */
export interface StepBody {
  readonly step: number;
  readonly hidden?: Tensor;
}

/** @param tokens rows of the step @param vocabSize columns of logits */
export function outputBody(output: StepOutput, tokens: number, vocabSize: number, activations: ActivationFormat): StepBody {
  const { step, logits, hidden, layerHidden, routing } = output;
  return {
    step,
    ...(logits && { logits: matrix(logits, logits.length / vocabSize, "f32") }),
    ...(hidden && { hidden: matrix(hidden, tokens, activations) }),
    ...(layerHidden && { layerHidden: layerHidden.map((rows) => matrix(rows, tokens, "f32")) }),
    ...(routing && {
      routing: routing.map(({ layer, indices, weights }) => ({
        layer,
        indices: new Tensor(indices, [tokens, indices.length / tokens]),
        weights: matrix(weights, tokens, "f32"),
      })),
    }),
  };
}

export function outputOf({ step, logits, hidden, layerHidden, routing }: z.infer<typeof schemas.stepOutput>, tokens: number): StepOutput {
  const rows = (field: string, tensor: Tensor, count: number): Floats => expectTensor(field, tensor, "f32", [count, -1]);
  return {
    step,
    ...(logits && { logits: rows("logits", logits, -1) }),
    ...(hidden && { hidden: rows("hidden", hidden, tokens) }),
    ...(layerHidden && { layerHidden: layerHidden.map((tensor) => rows("layerHidden", tensor, tokens)) }),
    ...(routing && {
      routing: routing.map(({ layer, indices, weights }): RoutingCapture => ({
        layer,
        indices: expectTensor("indices", indices, "i32", [tokens, -1]),
        weights: rows("weights", weights, tokens),
      })),
    }),
  };
}

export function samplingBody({ logitBias, ...parameters }: SamplingParameters): unknown {
  return { ...parameters, ...(logitBias && { logitBias: [...logitBias] }) };
}

export function samplingOf(parameters: z.infer<typeof schemas.samplingParameters>): SamplingParameters {
  const { temperature, topP, topK, minP, seed, repetitionPenalty, frequencyPenalty, presencePenalty, logitBias } = parameters;
  return {
    temperature,
    topP,
    topK,
    minP,
    seed,
    ...(repetitionPenalty !== undefined && { repetitionPenalty }),
    ...(frequencyPenalty !== undefined && { frequencyPenalty }),
    ...(presencePenalty !== undefined && { presencePenalty }),
    ...(logitBias && { logitBias: new Map(logitBias) }),
  };
}

export function snapshotBody({ format, tokens, rowBytes, layers }: KvSnapshot): object {
  return { format, tokens, rowBytes, layers: layers.map((rows) => new Tensor(rows)) };
}

export function snapshotOf({ format, tokens, rowBytes, layers }: z.infer<typeof schemas.kvSnapshot>): KvSnapshot {
  return { format, tokens, rowBytes, layers: layers.map((rows) => expectTensor("layers", rows, "u8", [-1])) };
}

function matrix(values: Floats, rows: number, format: ActivationFormat): Tensor {
  // A length that does not fit is the stage's to refuse, in its own words.
  const fits = rows > 0 && values.length % rows === 0;
  return fits ? new Tensor(values, [rows, values.length / rows], format) : new Tensor(values, [1, values.length], format);
}

/** Masks all have the same number of words; what else there is a stage refuses. */
function masksTensor(masks: readonly Uint32Array<ArrayBuffer>[]): Tensor {
  const words = masks[0]?.length ?? 0;
  const all = new Uint32Array(masks.length * words);
  for (const [index, mask] of masks.entries()) {
    if (mask.length !== words) throw new RangeError(`Cannot send masks of ${words} and ${mask.length} words`);
    all.set(mask, index * words);
  }
  return new Tensor(all, [masks.length, words]);
}

function masksOf(tensor: Tensor): readonly Uint32Array<ArrayBuffer>[] {
  const all = expectTensor("masks", tensor, "u32", [-1, -1]);
  const [count = 0, words = 0] = tensor.shape;
  return Array.from({ length: count }, (_, index) => all.subarray(index * words, (index + 1) * words));
}
