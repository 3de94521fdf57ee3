/**
 * How Deno's built-in WebGPU maps a buffer (seen with Deno 2.9.6), and what is done about it.
 *
 * `mapAsync` waits for the device before it returns, at once and blocking; the buffer is mapped then. But the promise sleeps for 10 ms before it looks whether that has happened, so that every
 * readback takes 11 ms at least, and a stage of a pipeline waits as long for nothing. `getMappedRange` asks the device, not the promise, and works before the sleep is over.
 *
 * A buffer's first mapping must be awaited: until then Deno has not noted what it was mapped for, and `getMappedRange` ends the whole process. That is why other versions than those that were looked at
 * wait as they always did. Delete this when `mapAsync` resolves as soon as the buffer is mapped.
 */
import process from "node:process";

const LOOKED_AT = /^2\.9\./;

/** @returns undefined where `mapAsync` is to be awaited */
export function earlyMap(version: string | undefined = process.versions["deno"]): ((staging: GPUBuffer) => Promise<void>) | undefined {
  if (version === undefined || !LOOKED_AT.test(version)) return undefined;
  const mappedBefore = new WeakSet<GPUBuffer>();
  return async (staging) => {
    const mapping = staging.mapAsync(GPUMapMode.READ);
    if (!mappedBefore.has(staging) || !isMapped(staging)) {
      await mapping;
      mappedBefore.add(staging);
      return;
    }
    // It is mapped: what the promise says when it wakes is of no interest, or a loss, which the device tells by itself.
    mapping.catch(() => undefined);
    // Without a turn of the event loop a decoding loop would never hear of messages: it waits for nothing else.
    await new Promise<void>((resolve) => void setImmediate(resolve));
  };
}

function isMapped(staging: GPUBuffer): boolean {
  try {
    staging.getMappedRange(0, 0);
    return true;
  } catch {
    return false;
  }
}
