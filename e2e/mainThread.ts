/**
 * How long a page's main thread is blocked while an answer is written. A trace tells what each task computed from what it waited, for on a busy machine every task waits for
 * a processor; and the tasks of the page from those of the tool that drives it, which take long where the page is large.
 */
import { type Browser, type Page, expect } from "playwright/test";

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
  /** Long-task entries of the page: milliseconds from a task's begin to its end, with all that it waited. */
  readonly entries: readonly number[];
  /** By how much this machine was slower meanwhile than the yardstick's; at least 1. */
  readonly slowness: number;
}

/** Asks as a person does and waits for the answer's end, all within the page: each look at it from outside is a task of its thread. */
export async function watchAnswer(browser: Browser, page: Page, question: string): Promise<MainThread> {
  await browser.startTracing(page, { categories: ["toplevel", "mojom", "blink.user_timing"] });
  const entries = await page.evaluate(askAndWatch, { question, yardsticks: YARDSTICKS, mark: MARK });
  const trace = JSON.parse((await browser.stopTracing()).toString()) as { readonly traceEvents: readonly TraceEvent[] };
  const tasks = tasksOf(trace.traceEvents);
  const of = (kind: Task["kind"]): readonly number[] => tasks.filter((task) => task.kind === kind).map(({ computedMs }) => computedMs);
  const yardsticks = of("yardstick").toSorted((a, b) => a - b);
  expect(yardsticks).toHaveLength(2 * YARDSTICKS);
  const slowness = Math.max(1, (yardsticks[YARDSTICKS] ?? 0) / YARDSTICK_MS);
  const computed = of("page");
  // Otherwise the trace has missed the page.
  expect(computed.length).toBeGreaterThan(10);
  console.log(
    `${computed.length} tasks; the longest computed ${mostOf(computed).toFixed(1)} ms (of the test's tool: ${mostOf(of("tool")).toFixed(1)} ms); ` +
      `long-task entries: ${entries.map((ms) => `${ms.toFixed(0)} ms`).join(", ") || "none"}; this machine is ${slowness.toFixed(1)} times as slow as the yardstick's`,
  );
  return { computed, entries, slowness };
}

export function mostOf(values: readonly number[]): number {
  return values.reduce((a, b) => Math.max(a, b), 0);
}

/** Runs in the page. */
async function askAndWatch({ question, yardsticks, mark }: { question: string; yardsticks: number; mark: string }): Promise<number[]> {
  const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
  // Elements are made, laid out and thrown away, as a page does.
  const measure = async (): Promise<void> => {
    for (let times = 0; times < yardsticks; times++) {
      await pause(20);
      performance.mark(mark);
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
  const entries: number[] = [];
  const observer = new PerformanceObserver((list) => entries.push(...list.getEntries().map(({ duration }) => duration)));
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
  return entries;
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
  readonly computedMs: number;
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
      return { kind: marks.some(has) ? "yardstick" : tools.some(has) ? "tool" : "page", computedMs: (task.tdur ?? 0) / 1000 };
    });
}
