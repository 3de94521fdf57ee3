/**
 * How long a page's main thread is blocked while an answer is written. A trace tells what each task computed from what it waited, for on a busy machine every task waits for
 * a processor; and the tasks of the page from those of the tool that drives it, which take long where the page is large. Long-task entries tell no such thing, so where they
 * are to be believed the page's threads have precedence (`precedence.ts`).
 */
import { type Browser, type Page, expect } from "playwright/test";
import { givePrecedence } from "./precedence.ts";

/** Long-task entries begin here. */
export const LONG_MS = 50;
/** What the yardstick computes on a machine that nothing slows: others take longer for it, and for all else. */
const YARDSTICK_MS = 20;
/** Before the answer, and after it. */
const YARDSTICKS = 4;
const MARK = "yardstick";

export interface MainThread {
  /** Milliseconds that each task of the page computed. */
  readonly computed: readonly number[];
  /** Long-task entries of the page. */
  readonly entries: readonly LongTask[];
  /** Whether the page's threads went before all others of this machine. */
  readonly precedence: boolean;
  /** By how much this machine was slower meanwhile than the yardstick's; at least 1. */
  readonly slowness: number;
}

interface LongTask {
  /** Milliseconds from its begin to its end, with all that it waited. */
  readonly ms: number;
  /** Of these, milliseconds that it computed. */
  readonly computedMs: number;
}

/** What a page does it does each time; what else happens on a machine comes and goes. */
const TRIES = 3;

/**
 * No task computes for `LONG_MS`, and where this machine gives the page precedence there is an answer, one of a few, without a long-task entry.
 * @param ask one answer, watched
 */
export async function expectFree(ask: () => Promise<MainThread>): Promise<void> {
  for (let tries = 1; ; tries++) {
    const { computed, entries, precedence, slowness } = await ask();
    expect(mostOf([...computed, ...entries.map(({ computedMs }) => computedMs)]) / slowness).toBeLessThan(LONG_MS);
    if (!precedence || entries.length === 0) return;
    if (tries === TRIES) expect(entries, "long-task entries of the last answer").toEqual([]);
  }
}

/** Asks as a person does and waits for the answer's end, all within the page: each look at it from outside is a task of its thread. */
export async function watchAnswer(browser: Browser, page: Page, question: string): Promise<MainThread> {
  const endPrecedence = await givePrecedence(browser);
  try {
    await browser.startTracing(page, { categories: ["toplevel", "mojom", "blink.user_timing"] });
    const watched = await page.evaluate(askAndWatch, { question, yardsticks: YARDSTICKS, mark: MARK });
    const trace = JSON.parse((await browser.stopTracing()).toString()) as { readonly traceEvents: readonly TraceEvent[] };
    return told(tasksOf(trace.traceEvents), watched, endPrecedence !== undefined);
  } finally {
    endPrecedence?.();
  }
}

function told(tasks: readonly Task[], watched: Watched, precedence: boolean): MainThread {
  const of = (kind: Task["kind"]): readonly Task[] => tasks.filter((task) => task.kind === kind);
  const yardsticks = of("yardstick");
  expect(yardsticks).toHaveLength(2 * YARDSTICKS);
  const slowness = Math.max(1, (yardsticks.map(({ computedMs }) => computedMs).toSorted((a, b) => a - b)[YARDSTICKS] ?? 0) / YARDSTICK_MS);
  const computed = of("page").map(({ computedMs }) => computedMs);
  // Otherwise the trace has missed the page.
  expect(computed.length).toBeGreaterThan(10);
  // Entries count from when the page was opened.
  const origin = Math.min(...yardsticks.map(({ markedMs }) => markedMs ?? Infinity)) - watched.firstMark;
  const entries = watched.entries.map(([begin, ms]) => {
    const task = tasks.find(({ beginMs, ms: length }) => Math.abs(beginMs - origin - begin) < 2 && Math.abs(length - ms) < 2);
    if (!task) throw new Error(`Cannot tell what the long-task entry of ${ms} ms computed: the trace has no such task`);
    return { ms, computedMs: task.computedMs };
  });
  const texts = entries.map(({ ms, computedMs }) => `${ms.toFixed(0)} ms, ${computedMs.toFixed(1)} ms of it computed`);
  console.log(
    `${computed.length} tasks; the longest computed ${mostOf(computed).toFixed(1)} ms (of the test's tool: ${mostOf(of("tool").map(({ computedMs }) => computedMs)).toFixed(1)} ms); ` +
      `long-task entries ${precedence ? "with" : "without"} precedence: ${texts.join("; ") || "none"}; this machine is ${slowness.toFixed(1)} times as slow as the yardstick's`,
  );
  return { computed, entries, slowness, precedence };
}

export function mostOf(values: readonly number[]): number {
  return values.reduce((a, b) => Math.max(a, b), 0);
}

interface Watched {
  /** Begin and length. */
  readonly entries: readonly (readonly [number, number])[];
  readonly firstMark: number;
}

/** Runs in the page. */
async function askAndWatch({ question, yardsticks, mark }: { question: string; yardsticks: number; mark: string }): Promise<Watched> {
  const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
  const marks: number[] = [];
  // Elements are made, laid out and thrown away, as a page does.
  const measure = async (): Promise<void> => {
    for (let times = 0; times < yardsticks; times++) {
      await pause(20);
      marks.push(performance.mark(mark).startTime);
      const part = document.createElement("div");
      for (let at = 0; at < 400; at++)
        part.append(Object.assign(document.createElement("p"), { textContent: "Words of a paragraph. ".repeat(6) }));
      document.body.append(part);
      part.getBoundingClientRect();
      part.remove();
      await pause(0);
    }
  };
  await measure();
  const entries: [number, number][] = [];
  const observer = new PerformanceObserver((list) => {
    for (const { startTime, duration } of list.getEntries()) entries.push([startTime, duration]);
  });
  observer.observe({ type: "longtask" });
  const count = (): number => document.querySelectorAll(".message.assistant .stats").length;
  const before = count();
  const field = document.querySelector<HTMLTextAreaElement>("#message");
  if (!field) throw new Error("Cannot ask: the page has no field to write in");
  field.value = question;
  field.dispatchEvent(new InputEvent("input", { bubbles: true }));
  await pause(0);
  field.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true }));
  while (count() === before) await pause(50);
  // What is parsed and coloured once more at the end.
  await pause(1000);
  observer.disconnect();
  await measure();
  return { entries, firstMark: marks[0] ?? 0 };
}

interface TraceEvent {
  readonly name: string;
  readonly pid: number;
  readonly tid: number;
  /** Microseconds: when, how long, and how long of it the thread computed. */
  readonly ts: number;
  readonly dur?: number;
  readonly tdur?: number;
  readonly args?: { readonly name?: string; readonly chrome_mojo_event_info?: { readonly mojo_interface_tag?: string } };
}

interface Task {
  readonly kind: "page" | "tool" | "yardstick";
  readonly beginMs: number;
  readonly ms: number;
  readonly computedMs: number;
  /** When a yardstick was marked. */
  readonly markedMs: number | undefined;
}

function tasksOf(events: readonly TraceEvent[]): readonly Task[] {
  const thread = ({ pid, tid }: TraceEvent): string => `${pid}/${tid}`;
  const mains = new Set(events.filter(({ name, args }) => name === "thread_name" && args?.name === "CrRendererMain").map(thread));
  const ofMain = events.filter((event) => mains.has(thread(event)));
  const tools = ofMain.filter(({ args }) => args?.chrome_mojo_event_info?.mojo_interface_tag === "blink.mojom.DevToolsSession");
  const marks = ofMain.filter(({ name }) => name === MARK);
  return ofMain
    .filter(({ name, tdur }) => name === "ThreadControllerImpl::RunTask" && tdur !== undefined)
    .map((task) => {
      const has = (event: TraceEvent): boolean =>
        thread(event) === thread(task) && event.ts >= task.ts && event.ts <= task.ts + (task.dur ?? 0);
      const mark = marks.find(has);
      return {
        kind: mark ? "yardstick" : tools.some(has) ? "tool" : "page",
        beginMs: task.ts / 1000,
        ms: (task.dur ?? 0) / 1000,
        computedMs: (task.tdur ?? 0) / 1000,
        markedMs: mark && mark.ts / 1000,
      };
    });
}
