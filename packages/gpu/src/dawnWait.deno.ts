/**
 * Dawn's Node-API addon settles its promises from the event loop but does not wake it: in Deno 2.9.6 with `webgpu` 0.6.2 an otherwise idle loop slept until the
 * next unrelated timer (seen: 60 s) although the GPU was done. While a promise of Dawn's is pending, a timer keeps the loop turning.
 * Delete when Deno polls immediates scheduled by addons.
 */
const WAKE_INTERVAL_MS = 10;

export async function waitAwake<T>(promise: Promise<T>): Promise<T> {
  const timer = setInterval(() => {}, WAKE_INTERVAL_MS);
  try {
    return await promise;
  } finally {
    clearInterval(timer);
  }
}
