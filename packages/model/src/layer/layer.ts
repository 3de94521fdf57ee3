/**
 * The commands of one decoder layer: attention and MLP, each reading the residual stream through a norm and adding to it.
 *
 * While decoding in w8a32 a MoE layer is 11 dispatches: input projections (norm fused), cache write, query projection (norm fused), query absorption with RoPE, attention,
 * value projection, output projection (adds), router logits (norm fused), router, gate-up-SiLU of all chosen experts (norm fused), down with the
 * weighted sum (adds). On GPUs it is 7 after short contexts and 10 after others: cache write to value projection are one, and so are the norm, the router's logits and the router. A layer small enough
 * for a workgroup to do a head or an expert in no more time than dispatches take is 2: its attention for one token, and its MLP.
 */
import type { KvCache } from "@shoal/kernels";
import type { Recorder } from "../recorder.ts";
import type { LayerWeights } from "../weights/layer.ts";
import { recordAttention } from "./attention.ts";
import { recordMlp } from "./mlp.ts";

/** Adds the commands of a layer. The residual stream is read from and added to `activations.residual`. */
export function recordLayer(recorder: Recorder, layer: LayerWeights, cache: KvCache): void {
  recordAttention(recorder, layer.attention, cache);
  recordMlp(recorder, layer);
}
