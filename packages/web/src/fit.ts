/** Which of the published models may fit a device, from what a browser tells. How much memory a GPU has none does. */
import type { KnownModel } from "./knownModels.ts";

export interface DeviceFacts {
  /** Free for this site; null where the browser does not tell. */
  readonly storageBytes: number | null;
  /** `navigator.deviceMemory`: the machine's memory in GiB, rounded to a power of two; `MOST_TOLD` may mean any more. Null where the browser does not tell. */
  readonly deviceMemory: number | null;
  /** Whether a processor stands in for the GPU; null as long as nobody has looked. */
  readonly isSoftware: boolean | null;
}

export type Fit = "perhaps" | "too-slow" | "too-little-memory" | "too-little-room";

/** Browsers tell of no more, so as not to tell machines apart (https://www.w3.org/TR/device-memory/). */
const MOST_TOLD = 8;
/** What a machine that is told as `deviceMemory` has at most, given the rounding; GPUs with many times their machine's memory are not made. */
const MOST_PER_TOLD = 2;

/** `perhaps`: there is room, and memory if the GPU has `gpuBytes` of it. Limits tell nothing: what these models bind fits every WebGPU device. */
export function fitOf({ gpuBytes, downloadBytes }: KnownModel, { storageBytes, deviceMemory, isSoftware }: DeviceFacts): Fit {
  if (isSoftware === true) return "too-slow";
  if (deviceMemory !== null && deviceMemory < MOST_TOLD && gpuBytes > MOST_PER_TOLD * deviceMemory * 2 ** 30) return "too-little-memory";
  if (storageBytes !== null && downloadBytes > storageBytes) return "too-little-room";
  return "perhaps";
}
