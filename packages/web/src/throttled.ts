/** Reports to the page, no more often than a person sees. */
import type { Remote } from "comlink";

/** A callback of the page's. comlink makes every call of it a promise. */
export type Callback<Arguments extends unknown[]> = Remote<(...args: Arguments) => void>;

/** Between two reports. */
const PROGRESS_MS = 100;

export interface Throttled<T> {
  (value: T): void;
  /** Whatever was reported last. */
  now(value: T): void;
  /** Resolves when the last report was taken. */
  last(): Promise<unknown>;
}

/** Reports at most every PROGRESS_MS, and always the last. */
export function throttled<T>(callback: Callback<[T]>, isLast: (value: T) => boolean): Throttled<T> {
  let at = -Infinity;
  let taken: Promise<unknown> = Promise.resolve();
  const now = (value: T): void => {
    at = performance.now();
    // A report that is lost is no loss.
    taken = (callback(value as never) as Promise<unknown>).catch(() => {});
  };
  const report = (value: T): void => {
    if (performance.now() - at >= PROGRESS_MS || isLast(value)) now(value);
  };
  return Object.assign(report, { now, last: () => taken });
}
