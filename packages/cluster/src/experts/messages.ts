/** What calls of an expert shard carry. */
import { type ExpertCall, type ExpertShardDescription, ModelError } from "@shoal/model";
import { z } from "zod";
import { parsed } from "../wire/calls.ts";
import { type ActivationFormat, Tensor, expectTensor } from "../wire/tensor.ts";

const index = z.int().min(0).max(0xffffffff);
const tensor = z.instanceof(Tensor);

const runCall = z.strictObject({
  layer: index,
  x: tensor,
  experts: tensor,
  weights: tensor,
  activations: z.enum(["f32", "f16", "fp8"]),
});

export const shardDescription = z.strictObject({
  experts: z.array(z.strictObject({ layer: index, experts: z.array(index).max(4096) })).max(1024),
  hiddenSize: index,
  maxTokens: index,
  memory: z.record(z.string().max(64), z.number()),
}) satisfies z.ZodType<ExpertShardDescription>;

/** Weights always travel as f32: they are a thousandth of the bytes. */
export function runBody({ layer, tokens, slots, x, experts, weights }: ExpertCall, activations: ActivationFormat): unknown {
  return {
    layer,
    x: new Tensor(x, [tokens, x.length / tokens], activations),
    experts: new Tensor(experts, [tokens, slots]),
    weights: new Tensor(weights, [tokens, slots]),
    activations,
  };
}

export function runOf(body: unknown): { readonly call: ExpertCall; readonly activations: ActivationFormat } {
  const { layer, x, experts, weights, activations } = parsed(runCall, "run", body);
  const [tokens = 0, slots = 0] = experts.shape;
  if (tokens === 0) throw new ModelError("bad-batch", "Cannot run experts: there are no rows");
  return {
    call: {
      layer,
      tokens,
      slots,
      x: expectTensor("x", x, "f32", [tokens, -1]),
      experts: expectTensor("experts", experts, "u32", [tokens, slots]),
      weights: expectTensor("weights", weights, "f32", [tokens, slots]),
    },
    activations,
  };
}
