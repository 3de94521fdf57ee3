/** What a model would take on this device, from its config alone or from its headers, before its weights are fetched. */
import { type ModelConfig, tensorSchema } from "@shoal/checkpoint";
import type { GpuContext } from "@shoal/gpu";
import { DECODE_TOKENS, type LocalStageOptions, type RunShape, checkAdapter, memoryRequirements, stagePlan } from "@shoal/model";
import { expertNeeds } from "./expertNeeds.ts";
import type { ModelCheck } from "./protocol.ts";

type Tensors = Parameters<typeof memoryRequirements>[0]["tensors"];

const KV_FORMAT = "f16";
/** Answers at once: several conversations, or several answers to one question. A verified draft takes two rows. */
const MAX_SEQUENCES = 4;

/**
 * How a page runs a model. On a processor drafts save little more than they cost (packages/engine/bench/requests.ts), and the kernels for many rows take 50 to 60 ms a token of the embedded model's
 * prompts, as those for few do, but 15 s to compile (SwiftShader, two cores).
 */
export function stageOptions(config: ModelConfig, { isSoftware }: Pick<GpuContext["adapter"], "isSoftware">): LocalStageOptions {
  const few = isSoftware ? { maxTokens: DECODE_TOKENS } : {};
  return {
    kvFormat: KV_FORMAT,
    maxSequences: MAX_SEQUENCES,
    maxOutputs: 2 * MAX_SEQUENCES,
    mtp: config.nMtpLayers > 0 && !isSoftware,
    ...few,
  };
}

export type Estimate = Pick<ModelCheck, "gpuBytes" | "memory" | "refusal" | "contextTokens" | "experts">;

/** @param tensors as the files' headers have them; by default what the config says that they should be */
export function estimate(
  { limits, dialect, adapter }: Pick<GpuContext, "limits" | "dialect" | "adapter">,
  config: ModelConfig,
  tensors: Tensors = { tensors: schemaTensors(config) } as Tensors,
): Estimate {
  const run: RunShape = {
    ...stagePlan(config, stageOptions(config, adapter)),
    kvFormat: KV_FORMAT,
    subgroupMatrix: dialect.subgroupMatrix !== undefined,
  };
  let refusal: string | null = null;
  try {
    checkAdapter(limits, { config, tensors }, run);
  } catch (error) {
    if (!(error instanceof Error) || error.name !== "AdapterLimitError") throw error;
    refusal = error.message;
  }
  const { total, ...memory } = memoryRequirements({ config, tensors }, run);
  const { layers, bytes, leastBytes } = expertNeeds({ config, tensors }, run.mtp);
  return { gpuBytes: total, memory, refusal, contextTokens: run.contextTokens, experts: layers.length > 0 ? { bytes, leastBytes } : null };
}

/** What is published: matrices in the format that the config declares, everything else BF16. */
export function schemaTensors(config: ModelConfig): Tensors["tensors"] {
  const tensors = new Map<string, NonNullable<ReturnType<Tensors["tensors"]["get"]>>>();
  const add = (name: string, shape: readonly number[], dtype: "F8_E4M3" | "BF16" | "F32", bytes: number): void => {
    const byteLength = shape.reduce((product, size) => product * size, bytes);
    tensors.set(name, { name, dtype, shape, begin: 0, end: byteLength, byteLength, file: "" });
  };
  for (const { name, shape, kind, scaleName, scaleShape, duplicateOf } of tensorSchema(config)) {
    if (duplicateOf !== null) continue;
    if (kind === "fp8Block") add(name, shape, "F8_E4M3", 1);
    else add(name, shape, "BF16", 2);
    if (scaleName !== undefined && scaleShape) add(scaleName, scaleShape, "F32", 4);
  }
  return tensors;
}
