import type { Batch, Stage, StepOutput } from "@shoal/model";
import { expect, test } from "vitest";
import { StageObserver } from "./observedStage.ts";

function observed() {
  const batches: Batch[] = [];
  let now = 0;
  const stage = {
    forward(batch: Batch): Promise<StepOutput> {
      batches.push(batch);
      const routing = [{ layer: 3, indices: Int32Array.of(1, 0, 2, 1), weights: Float32Array.of(1, 1, 1, 1) }];
      return Promise.resolve({ step: batches.length, ...(batch.capture?.routing === true && { routing }) });
    },
    sampled: () => Promise.resolve([[7]]),
  } as unknown as Stage;
  const observer = new StageObserver(stage, { nRoutedExperts: 4, nActivatedExperts: 2 }, () => now);
  return { observer, batches, wait: (ms: number) => void (now += ms) };
}

const BATCH: Batch = { entries: [], output: "sample" };

test("a stage that nobody watches is asked for nothing more", async () => {
  const { observer, batches } = observed();
  await observer.stage.forward(BATCH);
  expect(batches).toEqual([BATCH]);
  expect(observer.take()).toBeUndefined();
  expect(await observer.stage.sampled(0, 1)).toEqual([[7]]);
});

test("while somebody watches, a step now and then tells its routing, and the steps between do not", async () => {
  const { observer, batches, wait } = observed();
  observer.watch(true);
  await observer.stage.forward(BATCH);
  await observer.stage.forward(BATCH);
  wait(1000);
  await observer.stage.forward(BATCH);
  expect(batches.map(({ capture }) => capture?.routing === true)).toEqual([true, false, true]);
  const view = observer.take();
  expect(view?.tokens).toBe(4);
  expect(view?.layers).toEqual([{ layer: 3, counts: Uint32Array.of(2, 4, 2, 0), last: Int32Array.of(2, 1) }]);
  expect(observer.take()).toBeUndefined();
});
