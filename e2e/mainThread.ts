/**
 * How long a page's main thread is blocked: by its own long-task entries, and by a trace, which tells what a thread computed from what it waited. On a busy machine every
 * task waits for a processor; an entry counts where the thread itself computed for as long.
 */
import { type Browser, type Page, expect } from "playwright/test";

/** Long-task entries begin here. */
export const LONG_MS = 50;

export interface MainThread {
  /** Milliseconds of each long-task entry. */
  readonly longTasks: readonly number[];
  /** Milliseconds that each task computed. */
  readonly computed: readonly number[];
}

interface Scope {
  longTasks?: number[];
}

export async function watchMainThread(browser: Browser, page: Page, during: () => Promise<void>): Promise<MainThread> {
  await page.evaluate(() => {
    const longTasks: number[] = [];
    (globalThis as unknown as Scope).longTasks = longTasks;
    const hear = (list: PerformanceObserverEntryList): void => void longTasks.push(...list.getEntries().map(({ duration }) => duration));
    new PerformanceObserver(hear).observe({ type: "longtask" });
  });
  await browser.startTracing(page, { categories: ["toplevel", "devtools.timeline", "disabled-by-default-devtools.timeline"] });
  await during();
  const trace = JSON.parse((await browser.stopTracing()).toString()) as { readonly traceEvents: readonly TraceEvent[] };
  const longTasks = await page.evaluate(() => (globalThis as unknown as Scope).longTasks ?? []);
  return { longTasks, computed: computedTimes(trace.traceEvents) };
}

export function expectFree({ longTasks, computed }: MainThread): void {
  const most = Math.max(...computed);
  console.log(`long-task entries: ${longTasks.length}; tasks: ${computed.length}; the most that one computed: ${most.toFixed(1)} ms`);
  // Otherwise the trace has missed the page.
  expect(computed.length).toBeGreaterThan(10);
  expect(longTasks.length === 0 || most < LONG_MS).toBe(true);
}

interface TraceEvent {
  readonly name: string;
  readonly pid: number;
  readonly tid: number;
  /** Microseconds of the thread's own time. */
  readonly tdur?: number;
  readonly args?: { readonly name?: string };
}

function computedTimes(events: readonly TraceEvent[]): readonly number[] {
  const thread = ({ pid, tid }: TraceEvent): string => `${pid}/${tid}`;
  const mains = new Set(events.filter(({ name, args }) => name === "thread_name" && args?.name === "CrRendererMain").map(thread));
  return events
    .filter((event) => event.name.endsWith("RunTask") && event.tdur !== undefined && mains.has(thread(event)))
    .map(({ tdur = 0 }) => tdur / 1000);
}
