/**
 * How Dawn's Node-API addon waits in Deno (seen with Deno 2.9.6 and `webgpu` 0.6.2), and what is done about it.
 *
 * The addon polls by calling `globalThis.setImmediate` from every immediate, tens of thousands of times a second while anything is pending. Deno's event loop copies
 * a list that grows with them: waits of milliseconds became seconds at full CPU (minutes under `deno test`). `paceImmediates` lets a short burst through, for waits that
 * are over soon, and then a timer every millisecond. `waitAwake` keeps the loop turning, which otherwise slept on although the GPU was done.
 * Delete both when Deno's immediates cost the same however many there were.
 */

/** Immediates in a row before timers take over: about 2 ms of them. */
const BURST = 100;
/** A pause of so many milliseconds between immediates begins a new burst. */
const PAUSE_MS = 4;
const INTERVAL_MS = 1;

/** Replaces `globalThis.setImmediate` of this thread; to be called once, before the addon is loaded. */
export function paceImmediates(): void {
  const immediate = globalThis.setImmediate;
  let count = 0;
  let last = 0;
  const paced = <Arguments extends unknown[]>(callback: (...args: Arguments) => void, ...args: Arguments): unknown => {
    const now = performance.now();
    count = now - last > PAUSE_MS ? 0 : count + 1;
    last = now;
    return count < BURST ? immediate(callback, ...args) : setTimeout(callback, INTERVAL_MS, ...args);
  };
  Object.defineProperty(globalThis, "setImmediate", { value: paced, configurable: true, writable: true });
}

export async function waitAwake<T>(promise: Promise<T>): Promise<T> {
  const timer = setInterval(() => {}, INTERVAL_MS);
  try {
    return await promise;
  } finally {
    clearInterval(timer);
  }
}
