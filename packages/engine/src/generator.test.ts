import type { TokenHistory } from "@shoal/model";
import { describe, expect, it } from "vitest";
import { FakePagedStage, deviceLost } from "../test/fakePagedStage.ts";
import { FakeStage } from "../test/fakeStage.ts";
import { EngineError } from "./errors.ts";
import type { GenerationRequest } from "./generation.ts";
import { Generator } from "./generator.ts";
import { GREEDY } from "./sampling.ts";

/** The next token is the last one plus one: an answer is easy to predict. */
const counting = (ids: readonly number[]): number => (ids.at(-1) ?? 0) + 1;

function request(promptIds: readonly number[], more: Partial<GenerationRequest> = {}): GenerationRequest {
  return { promptIds, maxNewTokens: 5, sampling: GREEDY, stopTokenIds: [], ...more };
}

const range = (from: number, count: number): number[] => Array.from({ length: count }, (_, i) => from + i);

describe("Generator", () => {
  it("gives the tokens that the model chooses one after another", async () => {
    const generator = await Generator.open(new FakeStage({ rule: counting }));
    const seen: number[] = [];
    const result = await generator.generate(request([10, 11], { onTokens: (ids) => seen.push(...ids) }));
    expect(result.ids).toEqual([12, 13, 14, 15, 16]);
    expect(seen).toEqual(result.ids);
    expect(result.finishReason).toBe("length");
    expect(result.timings).toMatchObject({ promptTokens: 2, cachedTokens: 0, generatedTokens: 5 });
  });

  it("goes on with its answer on another stage wherever the device is lost, with penalties too", async () => {
    const rule = (ids: readonly number[], _: unknown, { generatedIds }: TokenHistory): number =>
      ((ids.at(-1) ?? 0) * 7 + ids.length + generatedIds.reduce((sum, id) => sum + id, 0)) % 97;
    const options = { blocks: 40, blockSize: 4, contextTokens: 64, maxTokens: 8, maxOutputs: 4, maxSequences: 2, rule };
    const wish = request(range(1, 19), { maxNewTokens: 12, sampling: { ...GREEDY, presencePenalty: 1 } });
    const answer = async (lostAtCall: number): Promise<{ readonly ids: readonly number[]; readonly calls: number }> => {
      const stages = [new FakePagedStage({ ...options, lostAtCall })];
      const reopen = async (): Promise<FakePagedStage> => {
        const stage = new FakePagedStage(options);
        stages.push(stage);
        return stage;
      };
      const generator = await Generator.open(stages[0] ?? (await reopen()), { reopen });
      const seen: number[] = [];
      const { ids, timings } = await generator.generate({ ...wish, onTokens: (more) => seen.push(...more) });
      expect(seen).toEqual(ids);
      expect(timings).toMatchObject({ promptTokens: 19, generatedTokens: 12 });
      return { ids, calls: stages[0]?.calls ?? 0 };
    };
    const { ids, calls } = await answer(0);
    expect(calls).toBeGreaterThan(15);
    for (let call = 1; call <= calls; call++) expect((await answer(call)).ids).toEqual(ids);
  });

  it("gives up after three losses in a row without a token, and at once without another stage", async () => {
    const lost = (): FakeStage => {
      const stage = new FakeStage({ rule: counting });
      stage.failure = deviceLost();
      return stage;
    };
    let reopened = 0;
    const reopen = async (): Promise<FakeStage> => {
      reopened++;
      return lost();
    };
    await expect((await Generator.open(lost(), { reopen })).generate(request([1]))).rejects.toThrow("pulled out");
    expect(reopened).toBe(3);
    await expect((await Generator.open(lost())).generate(request([1]))).rejects.toThrow("pulled out");
  });

  it("gives the first token alone", async () => {
    const generator = await Generator.open(new FakeStage({ rule: counting }));
    const batches: number[][] = [];
    await generator.generate(request([1], { maxNewTokens: 40, onTokens: (ids) => batches.push([...ids]) }));
    expect(batches[0]).toEqual([2]);
    expect(batches.flat()).toEqual(range(2, 40));
  });

  it("computes the prompt in chunks of at most maxTokens and reports them", async () => {
    const stage = new FakeStage({ rule: counting, maxTokens: 4 });
    const generator = await Generator.open(stage);
    const progress: string[] = [];
    const { ids } = await generator.generate(
      request(range(0, 10), { maxNewTokens: 1, onPrefill: (done, total) => progress.push(`${done}/${total}`) }),
    );
    expect(ids).toEqual([10]);
    expect(stage.log.filter((entry) => entry.startsWith("prefill"))).toEqual(["prefill 4", "prefill 4", "prefill 2"]);
    expect(progress).toEqual(["4/10", "8/10", "10/10"]);
  });

  it("lets penalties count neither what an earlier answer had nor what chunks before the last one choose", async () => {
    const stage = new FakeStage({ rule: counting, maxTokens: 4 });
    const generator = await Generator.open(stage);
    const sampling = { ...GREEDY, frequencyPenalty: 1 };
    const prompts = [range(0, 10), [...range(0, 12), 50, 51, 52, 53, 54]];
    for (const promptIds of prompts) await generator.generate(request(promptIds, { maxNewTokens: 2, sampling }));
    expect(stage.histories).toEqual([
      { penalizes: false, length: 0, history: undefined },
      { penalizes: true, length: 8, history: { promptIds: prompts[0], generatedIds: [] } },
      { penalizes: false, length: 11, history: undefined },
      { penalizes: true, length: 15, history: { promptIds: prompts[1], generatedIds: [] } },
    ]);
  });

  it("computes only what a second prompt does not have in common with the first and its answer", async () => {
    const stage = new FakeStage({ rule: counting });
    const generator = await Generator.open(stage);
    await generator.generate(request([1, 2, 3], { maxNewTokens: 3 }));
    stage.log.length = 0;
    const { ids, timings } = await generator.generate(request([1, 2, 3, 4, 5, 90], { maxNewTokens: 1 }));
    expect(ids).toEqual([91]);
    expect(timings.cachedTokens).toBe(5);
    expect(stage.log).toEqual(["prefill 1"]);
    expect(stage.ids).toEqual([1, 2, 3, 4, 5, 90]);
  });

  it("cuts the cache where a second prompt differs", async () => {
    const stage = new FakeStage({ rule: counting });
    const generator = await Generator.open(stage);
    await generator.generate(request([1, 2, 3], { maxNewTokens: 3 }));
    const { timings, ids } = await generator.generate(request([1, 2, 50], { maxNewTokens: 2 }));
    expect(timings.cachedTokens).toBe(2);
    expect(ids).toEqual([51, 52]);
    expect(stage.ids.slice(0, 3)).toEqual([1, 2, 50]);
  });

  it("computes the last token again when the whole prompt is cached", async () => {
    const stage = new FakeStage({ rule: counting });
    const generator = await Generator.open(stage);
    await generator.generate(request([1, 2, 3]));
    const again = await generator.generate(request([1, 2, 3]));
    expect(again.ids).toEqual([4, 5, 6, 7, 8]);
    expect(again.timings.cachedTokens).toBe(2);
  });

  it("ends at a stop token inside a batch, keeps it in the cache and drops what was computed beyond", async () => {
    const stage = new FakeStage({ rule: counting });
    const generator = await Generator.open(stage);
    const result = await generator.generate(request([1], { maxNewTokens: 60, stopTokenIds: [35] }));
    expect(result.finishReason).toBe("stop");
    expect(result.ids).toEqual(range(2, 33));
    expect(result.timings.generatedTokens).toBe(34);
    const next = await generator.generate(request([...range(1, 35), 7], { maxNewTokens: 1 }));
    expect(next.timings.cachedTokens).toBe(35);
    expect(next.ids).toEqual([8]);
    expect(stage.ids).toEqual([...range(1, 35), 7]);
  });

  it("gives nothing when the first token ends the answer", async () => {
    const generator = await Generator.open(new FakeStage({ rule: counting }));
    const batches: unknown[] = [];
    const result = await generator.generate(request([1], { stopTokenIds: [2], onTokens: (ids) => batches.push(ids) }));
    expect(result).toMatchObject({ ids: [], finishReason: "stop" });
    expect(batches).toEqual([]);
  });

  it("computes no more steps than maxNewTokens asks for", async () => {
    const stage = new FakeStage({ rule: counting });
    await (await Generator.open(stage)).generate(request([1], { maxNewTokens: 7 }));
    expect(stage.steps).toBe(7);
  });

  it("ends with the context, whose last token gives one more", async () => {
    const stage = new FakeStage({ rule: counting, contextTokens: 8 });
    const generator = await Generator.open(stage);
    const result = await generator.generate(request([1, 2, 3], { maxNewTokens: 100 }));
    expect(result.ids).toEqual(range(4, 6));
    expect(result.finishReason).toBe("length");
    expect((await generator.generate(request(range(1, 8), { maxNewTokens: 100 }))).ids).toEqual([9]);
  });

  it("refuses a prompt longer than the context and names both numbers", async () => {
    const stage = new FakeStage({ rule: counting, contextTokens: 8 });
    const generator = await Generator.open(stage);
    const error = await generator.generate(request(range(0, 9))).catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(EngineError);
    expect(error).toMatchObject({ code: "prompt-too-long", actual: 9, expected: 8, message: expect.stringMatching(/9 tokens.*at most 8/) });
    expect(stage.steps).toBe(0);
  });

  it("refuses an empty prompt, no new tokens and impossible sampling", async () => {
    const generator = await Generator.open(new FakeStage({ rule: counting }));
    await expect(generator.generate(request([]))).rejects.toThrow("the prompt is empty");
    await expect(generator.generate(request([1], { maxNewTokens: 0 }))).rejects.toThrow("maxNewTokens is 0");
    await expect(generator.generate(request([1], { sampling: { ...GREEDY, topP: 0 } }))).rejects.toThrow("top-p is 0");
    await expect(generator.generate(request([1], { sampling: { ...GREEDY, temperature: Number.NaN } }))).rejects.toThrow("temperature");
    await expect(generator.generate(request([1], { sampling: { ...GREEDY, seed: -1n } }))).rejects.toThrow("the seed is -1");
  });

  it("passes the sampling parameters to the stage", async () => {
    const stage = new FakeStage({ rule: counting });
    const sampling = { temperature: 0.5, topP: 0.9, topK: 40, minP: 0.1, seed: 7n };
    await (await Generator.open(stage)).generate(request([1], { sampling }));
    expect(stage.sampling).toEqual(sampling);
  });

  it("stops at an abort in the middle and goes on from a consistent cache", async () => {
    const stage = new FakeStage({ rule: counting });
    const generator = await Generator.open(stage);
    const controller = new AbortController();
    const seen: number[] = [];
    const onTokens = (ids: readonly number[]): void => {
      seen.push(...ids);
      if (seen.length >= 5) controller.abort();
    };
    const running = generator.generate(request([1, 2], { maxNewTokens: 50, onTokens, signal: controller.signal }));
    await expect(running).rejects.toMatchObject({ name: "AbortError" });
    const next = await generator.generate(request([1, 2, ...seen, 77], { maxNewTokens: 3 }));
    expect(next.ids).toEqual([78, 79, 80]);
    expect(next.timings.cachedTokens).toBe(2 + seen.length);
    expect(stage.ids.slice(0, 3 + seen.length)).toEqual([1, 2, ...seen, 77]);
  });

  it("does not wait for a read that hangs when it is aborted", async () => {
    let release = (): void => {};
    const hanging = new Promise<void>((resolve) => (release = resolve));
    const stage = new FakeStage({ rule: counting, beforeRead: (step) => (step === 1 ? hanging : Promise.resolve()) });
    const generator = await Generator.open(stage);
    const controller = new AbortController();
    const running = generator.generate(
      request([1], { signal: controller.signal, onTokens: () => setTimeout(() => controller.abort(), 1) }),
    );
    await expect(running).rejects.toMatchObject({ name: "AbortError" });
    release();
    expect((await generator.generate(request([1, 9]))).ids).toEqual(range(10, 5));
  });

  it("stops between the chunks of a long prompt", async () => {
    const controller = new AbortController();
    const stage = new FakeStage({ rule: counting, maxTokens: 4 });
    const generator = await Generator.open(stage);
    const onPrefill = (): void => controller.abort();
    const running = generator.generate(request(range(0, 40), { signal: controller.signal, onPrefill }));
    await expect(running).rejects.toMatchObject({ name: "AbortError" });
    expect(stage.steps).toBeLessThan(5);
    const { timings } = await generator.generate(request(range(0, 40)));
    expect(timings.cachedTokens).toBeGreaterThan(0);
    expect(timings.cachedTokens % 4).toBe(0);
  });

  it("does nothing when aborted beforehand", async () => {
    const stage = new FakeStage({ rule: counting });
    const generator = await Generator.open(stage);
    await expect(generator.generate(request([1], { signal: AbortSignal.abort() }))).rejects.toMatchObject({ name: "AbortError" });
    expect(stage.log).toEqual([]);
  });

  it("passes on what the stage throws and works again afterwards", async () => {
    const stage = new FakeStage({ rule: counting });
    const generator = await Generator.open(stage);
    stage.failure = new Error("the device caught fire");
    await expect(generator.generate(request([1, 2]))).rejects.toThrow("the device caught fire");
    expect((await generator.generate(request([1, 2]))).ids).toEqual(range(3, 5));
  });

  it("passes on what a callback throws and works again afterwards", async () => {
    const generator = await Generator.open(new FakeStage({ rule: counting }));
    const onTokens = (): void => {
      throw new Error("the pipe is closed");
    };
    await expect(generator.generate(request([1], { onTokens }))).rejects.toThrow("the pipe is closed");
    expect((await generator.generate(request([1]))).ids).toEqual(range(2, 5));
  });

  it("refuses a second request while one runs, and any after it is closed", async () => {
    const stage = new FakeStage({ rule: counting });
    const generator = await Generator.open(stage);
    const running = generator.generate(request([1]));
    await expect(generator.generate(request([1]))).rejects.toMatchObject({ code: "busy" });
    await running;
    await generator.close();
    expect(stage.closed).toBe(1);
    await expect(generator.generate(request([1]))).rejects.toMatchObject({ code: "closed" });
  });
});
