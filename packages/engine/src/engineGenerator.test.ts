import { expect, it } from "vitest";
import { FakePagedStage } from "../test/fakePagedStage.ts";
import { Engine } from "./engine.ts";
import { EngineGenerator } from "./engineGenerator.ts";
import type { GenerationRequest, GenerationResult } from "./generation.ts";
import { Generator } from "./generator.ts";
import { GREEDY } from "./sampling.ts";

const OPTIONS = { blocks: 80, blockSize: 4, contextTokens: 128, maxTokens: 8, maxOutputs: 4, maxSequences: 2 };
const rule = (ids: readonly number[]): number => ((ids.at(-1) ?? 0) * 7 + ids.length) % 97;
const wish: GenerationRequest = {
  promptIds: Array.from({ length: 19 }, (_, index) => index + 1),
  maxNewTokens: 60,
  sampling: GREEDY,
  stopTokenIds: [],
};

async function byEngine(stage: FakePagedStage, request: GenerationRequest): Promise<GenerationResult> {
  const engine = await Engine.open(stage, { prefixCache: false, drafts: { least: 2 } });
  try {
    return await new EngineGenerator(engine).generate(request);
  } finally {
    await engine.close();
  }
}

it("gives what a Generator gives, in fewer steps where the stage drafts", async () => {
  const drafting = new FakePagedStage({ ...OPTIONS, rule, mistaken: (ids) => ids.length % 5 === 0 });
  const plain = new FakePagedStage({ ...OPTIONS, rule });
  const expected = await (await Generator.open(plain)).generate(wish);
  for (const stopTokenIds of [[], expected.ids.slice(40, 41)]) {
    const alone = await (await Generator.open(new FakePagedStage({ ...OPTIONS, rule }))).generate({ ...wish, stopTokenIds });
    const seen: number[] = [];
    const prefills: number[][] = [];
    const actual = await byEngine(drafting, {
      ...wish,
      stopTokenIds,
      onTokens: (ids) => seen.push(...ids),
      onPrefill: (done, total) => prefills.push([done, total]),
    });
    expect(actual).toMatchObject({ ids: alone.ids, finishReason: alone.finishReason });
    expect(actual.timings).toMatchObject({ promptTokens: 19, cachedTokens: 0, generatedTokens: alone.timings.generatedTokens });
    expect(seen).toEqual(alone.ids);
    expect(prefills).toEqual([[19, 19]]);
  }
  expect(drafting.steps.length).toBeLessThan(plain.steps.length);
  expect(drafting.openSequences).toBe(0);
});

it("ends by its signal's reason, before and in the middle", async () => {
  const stage = new FakePagedStage({ ...OPTIONS, rule, mistaken: () => false });
  await expect(byEngine(stage, { ...wish, signal: AbortSignal.abort(new Error("not now")) })).rejects.toThrow("not now");
  const controller = new AbortController();
  const seen: number[] = [];
  const stopped = byEngine(stage, {
    ...wish,
    signal: controller.signal,
    onTokens: (ids) => {
      seen.push(...ids);
      if (seen.length > 10) controller.abort(new Error("enough"));
    },
  });
  await expect(stopped).rejects.toThrow("enough");
  expect(seen.length).toBeLessThan(60);
  expect(stage.openSequences).toBe(0);
});
