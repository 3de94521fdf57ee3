/**
 * What a step reads and computes at least, from the config, the stored tensors and the routing that it chose: not what its dispatches say of themselves, which
 * depends on how they are written. Pure.
 */
import { type CheckpointSource, type TensorSpec, kvBytesPerToken, tensorSchema } from "@shoal/checkpoint";
import type { KvFormat } from "@shoal/kernels";
import type { RoutingCapture } from "../../stage.ts";
import type { LayerRange } from "../../weights/model.ts";
import type { StepWork } from "./result.ts";

export interface StepShapeOfWork {
  readonly range: LayerRange;
  readonly tokens: number;
  /** Rows whose logits are computed. */
  readonly outputs: number;
  /** For each sequence of the step: positions in its cache before it, and its tokens. */
  readonly sequences: readonly { readonly before: number; readonly tokens: number }[];
  readonly kvFormat: KvFormat;
  /** Of the step, or of one like it. */
  readonly routing: readonly RoutingCapture[];
  readonly dispatches: number;
}

export function stepWork(checkpoint: Pick<CheckpointSource, "config" | "tensors">, step: StepShapeOfWork): StepWork {
  const { config, tensors } = checkpoint;
  const { range, tokens, outputs, sequences, kvFormat, routing, dispatches } = step;
  const stored = (spec: TensorSpec): number =>
    (tensors.tensors.get(spec.name)?.byteLength ?? 0) + (tensors.tensors.get(spec.scaleName ?? "")?.byteLength ?? 0);
  const chosen = new Map(routing.map(({ layer, indices }) => [layer, new Set(indices)]));
  let bytes = 0;
  let flops = 0;
  for (const spec of tensorSchema(config)) {
    const { layer, role, expert, shape, mtp } = spec;
    if (mtp) continue;
    const products = shape.length === 2 ? 2 * (shape[0] ?? 0) * (shape[1] ?? 0) : 0;
    if (layer === null) {
      if (role === "embedding") {
        // One row a token; as the head of a model that ties the two, it is read whole.
        const tied = config.tieWordEmbeddings && range.end === config.nLayers && outputs > 0;
        if (range.begin === 0) bytes += (tokens * stored(spec)) / (shape[0] ?? 1);
        if (tied) [bytes, flops] = [bytes + stored(spec), flops + products * outputs];
      } else if (range.end === config.nLayers && outputs > 0 && spec.duplicateOf === null) {
        bytes += stored(spec);
        flops += products * outputs;
      }
    } else if (layer >= range.begin && layer < range.end) {
      if (role !== "routedExpert") {
        bytes += stored(spec);
        flops += products * tokens;
      } else {
        if (expert !== null && chosen.get(layer)?.has(expert) === true) bytes += stored(spec);
        flops += (products * tokens * config.nActivatedExperts) / config.nRoutedExperts;
      }
    }
  }
  const layers = range.end - range.begin;
  // Each row attends to what was there before it and to itself: scores over latent and rope part, values over the latent.
  const attended = sequences.reduce((sum, { before, tokens }) => sum + tokens * before + (tokens * (tokens + 1)) / 2, 0);
  flops += layers * attended * config.nHeads * 2 * (2 * config.kvLoraRank + config.qkRopeHeadDim);
  const cached = sequences.reduce((sum, { before, tokens }) => sum + before + tokens, 0);
  bytes += cached * kvBytesPerToken(config, kvFormat, layers);
  return { tokens, bytes, flops, dispatches };
}
