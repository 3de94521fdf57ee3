/**
 * A hot operation has several variants, from plain to fast. All pass the same contract suite; which one runs is decided by what the device offers, and by what was
 * measured on it where that is known (`GpuContext.choices`).
 */
import type { GpuContext, ShaderConstants } from "@shoal/gpu";
import { TrialChoices } from "./tuning/trial.ts";

export interface Variant<Constants extends ShaderConstants = ShaderConstants> {
  /** Stable: tuning tables refer to it. */
  readonly name: string;
  readonly constants: Constants;
  /** Whether the device can run it, by its limits and dialect. Always, where it is absent. */
  readonly supported?: (gpu: GpuContext) => boolean;
}

/** Those that the device can run, in the order of the list. */
export function supportedVariants<V extends Variant>(gpu: GpuContext, variants: readonly V[]): readonly V[] {
  return variants.filter(({ supported }) => supported?.(gpu) ?? true);
}

/**
 * The variant to run: the one asked for by name, else the one measured to be best, else the first that the device can run.
 * @param operation the key of tuning tables, such as "matvec/fp8"
 * @throws RangeError if one is asked for that there is not, or that the device cannot run, or if it can run none
 */
export function chooseVariant<V extends Variant>(gpu: GpuContext, operation: string, variants: readonly V[], asked?: string): V {
  const candidates = supportedVariants(gpu, variants);
  const [preferred] = candidates;
  if (asked === undefined && preferred && gpu.choices instanceof TrialChoices)
    gpu.choices.offer(operation, { variants: candidates.map(({ name }) => name), preferred: preferred.name });
  const measured = gpu.choices.get(operation);
  // A table may be older than the code, or of another device: a name that is not known here is no reason to stop.
  const chosen =
    asked === undefined
      ? (candidates.find(({ name }) => name === measured) ?? candidates[0])
      : candidates.find(({ name }) => name === asked);
  if (chosen) return chosen;
  const names = candidates.map(({ name }) => name).join(", ") || "none";
  throw new RangeError(`Cannot run ${operation}${asked === undefined ? "" : ` as '${asked}'`}: this device offers ${names}`);
}
