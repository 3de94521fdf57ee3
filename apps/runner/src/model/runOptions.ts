/** How a model is run, from the options and the config. */
import type { ModelConfig } from "@shoal/checkpoint";
import { type LoadablePlan, parsePlan } from "@shoal/cluster";
import { type SamplingWish, samplingOf } from "@shoal/engine";
import type { SamplingParameters } from "@shoal/model";
import { UsageError } from "../errors.ts";
import type { FleetWish, LoadRequest } from "../gpu/protocol.ts";
import type { Values } from "../options.ts";
import { type OpenModel, readJson } from "./openModel.ts";

/** The demo's own seed. */
export const DEFAULT_SEED = 965n;
export const DEFAULT_MAX_NEW_TOKENS = 200;
/** More is taken only if asked for: a cache for all positions of a large model is larger than most devices. */
const DEFAULT_CONTEXT_TOKENS = 4096;

export function contextTokens({ context }: { readonly context?: number | undefined }, { maxPositionEmbeddings }: ModelConfig): number {
  if (context !== undefined && context > maxPositionEmbeddings)
    throw new UsageError(`Cannot use '--context ${context}': the model has ${maxPositionEmbeddings} positions, expected at most as many`);
  return context ?? Math.min(maxPositionEmbeddings, DEFAULT_CONTEXT_TOKENS);
}

/** How the stage is loaded for generating text: as the options say, then as the plan does. */
export async function loadOptions(values: Values, config: ModelConfig): Promise<Omit<LoadRequest, "location" | "config">> {
  const plan = await planOf(values);
  return {
    mode: values.mode ?? "w8a32",
    kvFormat: values.kv ?? plan?.kv ?? "f16",
    contextTokens: contextTokens({ context: values.context ?? plan?.context }, config),
    maxTokens: values.chunk,
    fleet: plan ? { plan, activations: values.activations ?? plan.activations } : fleetOf(values),
    expertBytes: values["expert-memory"],
  };
}

async function planOf({ plan, devices, split, webgpu }: Values): Promise<LoadablePlan | undefined> {
  if (plan === undefined) return undefined;
  if (devices) throw new UsageError("Cannot use '--devices' with '--plan', expected one of them");
  if (split !== undefined) throw new UsageError(`Cannot use '--split ${split}' with '--plan', which says who has what`);
  if (webgpu === "wgpu") throw new UsageError("Cannot use '--plan' with '--webgpu wgpu', expected Dawn, which has adapters by name");
  return parsePlan(await readJson(plan, "a plan, as 'shoal plan --json' prints it"));
}

/** `llvmpipe,SwiftShader=2`. */
function fleetOf({ devices, split, webgpu, activations = "f32" }: Values): FleetWish | undefined {
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
  return { members, split: split ?? "layers", activations };
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
