/** How a model is run, from the options and the config. */
import type { ModelConfig } from "@shoal/checkpoint";
import { type SamplingWish, samplingOf } from "@shoal/engine";
import type { SamplingParameters } from "@shoal/model";
import { UsageError } from "../errors.ts";
import type { FleetWish, LoadRequest } from "../gpu/protocol.ts";
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
    fleet: fleetOf(values),
  };
}

/** `llvmpipe,SwiftShader=2`. */
function fleetOf({ devices, split, webgpu }: Values): FleetWish | undefined {
  if (!devices) {
    if (split !== undefined) throw new UsageError(`Cannot use '--split ${split}' on one device, expected '--devices NAME,...' with it`);
    return undefined;
  }
  if (webgpu === "wgpu") throw new UsageError("Cannot use '--devices' with '--webgpu wgpu', expected Dawn, which has adapters by name");
  const members = devices.map((device) => {
    const [name = "", share = "1", ...more] = device.split("=");
    const number = /^\d{1,4}(\.\d{1,3})?$/.test(share) ? Number(share) : 0;
    if (name === "" || number <= 0 || more.length > 0)
      throw new UsageError(`Cannot use the device '${device}', expected a name, or a name, '=' and a share above 0`);
    return { name, share: number };
  });
  return { members, split: split ?? "layers" };
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
