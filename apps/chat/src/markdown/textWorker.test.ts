import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { TextWorker } from "./textWorker.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** A worker that answers when told to. */
class FakeWorker extends EventTarget {
  readonly jobs: unknown[] = [];
  isTerminated = false;
  postMessage(job: unknown): void {
    this.jobs.push(job);
  }
  terminate(): void {
    this.isTerminated = true;
  }
  say(data: unknown): void {
    this.dispatchEvent(Object.assign(new Event("message"), { data }));
  }
}

function setup() {
  const workers: FakeWorker[] = [];
  const texts = new TextWorker(() => {
    const worker = new FakeWorker();
    workers.push(worker);
    return worker as unknown as Worker;
  });
  return { workers, texts };
}

const PARSED = { blocks: [], references: {} };

test("TextWorker runs one job at a time, texts before the rest, and keeps results", async () => {
  const { workers, texts } = setup();
  const math = texts.math({ tex: "x", display: false });
  const parsed = texts.parse({ text: "a", references: {}, unfinished: false });
  const [worker] = workers;
  expect(worker?.jobs).toHaveLength(0);
  worker?.say("ready");
  expect(worker?.jobs).toMatchObject([{ name: "parse" }]);
  worker?.say({ result: PARSED });
  expect(await parsed).toBe(PARSED);
  expect(worker?.jobs).toMatchObject([{ name: "parse" }, { name: "math" }]);
  worker?.say({ error: "Cannot show the formula" });
  await expect(math).rejects.toThrow("Cannot show the formula");
  expect(texts.known("a")).toBe(PARSED);
  await expect(texts.math({ tex: "x", display: false })).rejects.toThrow("Cannot show the formula");
  expect(worker?.jobs).toHaveLength(2);
});

test("TextWorker replaces a worker that hangs, and goes on with the next job", async () => {
  const { workers, texts } = setup();
  const slow = texts.parse({ text: "slow", references: {}, unfinished: true });
  const next = texts.parse({ text: "next", references: {}, unfinished: true });
  slow.catch(() => {});
  workers[0]?.say("ready");
  await vi.advanceTimersByTimeAsync(60_000);
  await expect(slow).rejects.toThrow("takes too long");
  expect(workers[0]?.isTerminated).toBe(true);
  workers[1]?.say("ready");
  workers[1]?.say({ result: PARSED });
  expect(await next).toBe(PARSED);
});

test("TextWorker fails what waits for a worker that cannot start", async () => {
  const { workers, texts } = setup();
  const parsed = texts.parse({ text: "a", references: {}, unfinished: false });
  workers[0]?.dispatchEvent(Object.assign(new Event("error"), { message: "no such file" }));
  await expect(parsed).rejects.toThrow("no such file");
});
