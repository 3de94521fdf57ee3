/** How a model is run, from the options and the config. */
import type { ModelConfig } from "@shoal/checkpoint";
import { type SamplingWish, samplingOf } from "@shoal/engine";
import type { SamplingParameters } from "@shoal/model";
import { UsageError } from "../errors.ts";
import type { LoadRequest } from "../gpu/protocol.ts";
import type { Values } from "../options.ts";
import type { OpenModel } from "./openModel.ts";

/** The demo's own seed. */
export const DEFAULT_SEED = 965n;
export const DEFAULT_MAX_NEW_TOKENS = 200;
/** More is taken only if asked for: a cache for all positions of a large model is larger than most devices. */
const DEFAULT_CONTEXT_TOKENS = 4096;

export function contextTokens({ context }: Values, { maxPositionEmbeddings }: ModelConfig): number {
  if (context !== undefined && context > maxPositionEmbeddings)
    throw new UsageError(`Cannot use '--context ${context}': the model has ${maxPositionEmbeddings} positions, expected at most as many`);
  return context ?? Math.min(maxPositionEmbeddings, DEFAULT_CONTEXT_TOKENS);
}

/** How the stage is loaded for generating text. */
export function loadOptions(values: Values, config: ModelConfig): Omit<LoadRequest, "location" | "config"> {
  return {
    mode: values.mode ?? "w8a32",
    kvFormat: values.kv ?? "f16",
    contextTokens: contextTokens(values, config),
    maxTokens: values.chunk,
  };
}

export function samplingFrom(
  values: Values,
  { checkpoint }: OpenModel,
  defaults: { readonly temperature?: number; readonly seed: bigint },
): SamplingParameters {
  const wish: SamplingWish = {
    temperature: values.temperature ?? defaults.temperature,
    topP: values["top-p"],
    topK: values["top-k"],
    minP: values["min-p"],
    seed: values.seed ?? defaults.seed,
  };
  const penalties = {
    repetitionPenalty: values["repetition-penalty"],
    frequencyPenalty: values["frequency-penalty"],
    presencePenalty: values["presence-penalty"],
  };
  return {
    ...samplingOf(wish, checkpoint.generationConfig),
    ...Object.fromEntries(Object.entries(penalties).filter(([, value]) => value !== undefined)),
  };
}
