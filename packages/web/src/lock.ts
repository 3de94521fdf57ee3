/** One tab at a time. */

/** Before the first look, and between further ones, while another tab holds the lock. */
const FIRST_LOOK_MS = 100;
const NEXT_LOOK_MS = 1000;

/** Runs `work` once no other tab holds the lock; while it waits it calls `look` now and then. */
export async function whileLocked(name: string, signal: AbortSignal, look: () => Promise<void>, work: () => Promise<void>): Promise<void> {
  let timer: ReturnType<typeof setInterval> | undefined;
  const waiting = setTimeout(() => {
    const again = (): void => void look().catch(() => {});
    again();
    timer = setInterval(again, NEXT_LOOK_MS);
  }, FIRST_LOOK_MS);
  const stop = (): void => {
    clearTimeout(waiting);
    clearInterval(timer);
  };
  try {
    await navigator.locks.request(name, { signal }, () => {
      stop();
      return work();
    });
  } finally {
    stop();
  }
}
