import { type SamplingParameters, type TokenHistory, penalizes } from "@shoal/model";
import { describe, expect, it } from "vitest";
import { FakePagedStage, type FakePagedStageOptions, deviceLost, ruleLogprobs } from "../test/fakePagedStage.ts";
import { Engine, type EngineOptions } from "./engine.ts";
import { GREEDY } from "./sampling.ts";
import type { EngineRequest, EngineResult, GeneratedToken, RunningRequest } from "./request.ts";

const STOP = 999;

/** Hashes the whole sequence, and what penalties know of it, so that one wrong id anywhere changes all that follows; ends now and then. */
function rule(ids: readonly number[], sampling: SamplingParameters, { promptIds, generatedIds }: TokenHistory): number {
  let hash = Number(sampling.seed % 1000n) + 7;
  const counted = penalizes(sampling) ? [promptIds.length, ...promptIds, ...generatedIds] : [];
  for (const id of [...ids, ...counted, ...(sampling.logitBias?.keys() ?? [])]) hash = (Math.imul(hash, 31) + id + 1) >>> 0;
  return hash % 23 === 0 ? STOP : hash % 900;
}

/** The answer by the rule alone. */
function expected({ promptIds, maxNewTokens, sampling, stopTokenIds }: EngineRequest, contextTokens: number): number[] {
  const ids = [...promptIds];
  const most = Math.min(maxNewTokens, contextTokens - promptIds.length + 1);
  while (ids.length - promptIds.length < most) {
    const next = rule(ids, sampling, { promptIds, generatedIds: ids.slice(promptIds.length) });
    if (stopTokenIds.includes(next)) break;
    ids.push(next);
  }
  return ids.slice(promptIds.length);
}

function randomOf(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const STAGE: FakePagedStageOptions = { maxSequences: 4, blocks: 40, blockSize: 4, contextTokens: 64, maxTokens: 16, rule };

/** Steps that verify drafts, as the host learns which were right before the next, or behind it. */
const WAITING_OR_CHAINED = [
  { how: "waiting", chains: false },
  { how: "chained", chains: true },
] as const;

function request(promptIds: readonly number[], more: Partial<EngineRequest> = {}): EngineRequest {
  return { promptIds, maxNewTokens: 20, sampling: GREEDY, stopTokenIds: [STOP], ...more };
}

async function collect(running: RunningRequest): Promise<number[]> {
  return (await collectTokens(running)).map(({ id }) => id);
}

async function collectTokens(running: RunningRequest): Promise<GeneratedToken[]> {
  const all: GeneratedToken[] = [];
  for await (const tokens of running) all.push(...tokens);
  return all;
}

/** What the request should get, log probabilities and the prompt's tokens as it asks for them. */
function expectedTokens(wish: EngineRequest, contextTokens: number): GeneratedToken[] {
  const { promptIds, topLogprobs, promptLogprobs = false } = wish;
  const ids = [...promptIds, ...expected(wish, contextTokens)];
  const begin = promptLogprobs ? 1 : promptIds.length;
  return ids.slice(begin).map((id, index) => {
    const at = begin + index;
    const { logprob, top } = ruleLogprobs(ids.slice(0, at), id);
    return {
      id,
      ...(at < promptIds.length && { prompt: true as const }),
      ...(topLogprobs !== undefined && { logprob, topLogprobs: top.slice(0, topLogprobs) }),
    };
  });
}

async function withEngine(
  stageOptions: Partial<FakePagedStageOptions>,
  use: (engine: Engine, stage: FakePagedStage) => Promise<void>,
  options?: EngineOptions,
): Promise<void> {
  const stage = new FakePagedStage({ ...STAGE, ...stageOptions });
  const engine = await Engine.open(stage, options);
  await use(engine, stage);
  await engine.close();
  expect(stage.openSequences).toBe(0);
  expect(stage.freeBlocks).toBe({ ...STAGE, ...stageOptions }.blocks);
}

const range = (begin: number, count: number): number[] => Array.from({ length: count }, (_, index) => begin + index);

describe("Engine", () => {
  it("answers one request, and says what it cost", () =>
    withEngine({}, async (engine) => {
      const wish = request(range(1, 21));
      const running = engine.submit(wish);
      expect(await collect(running)).toEqual(expected(wish, 64));
      const result = await running.result;
      expect(result.usage.promptTokens).toBe(21);
      expect(result.usage.cachedTokens).toBe(0);
      const stopped = expected(wish, 64).length < 20;
      expect(result.finishReason).toBe(stopped ? "stop" : "length");
      expect(result.usage.completionTokens).toBe(expected(wish, 64).length + (stopped ? 1 : 0));
    }));

  it("fills the context to the last token", () =>
    withEngine({}, async (engine) => {
      const wish = request(range(1, 60), { maxNewTokens: 1000, stopTokenIds: [] });
      const running = engine.submit(wish);
      expect(await collect(running)).toEqual(expected(wish, 64));
      expect((await running.result).usage.completionTokens).toBe(5);
      expect((await running.result).finishReason).toBe("length");
    }));

  it("begins with the blocks that earlier prompts and answers left", () =>
    withEngine({}, async (engine, stage) => {
      const first = request(range(1, 21), { maxNewTokens: 6, stopTokenIds: [] });
      const answer = await collect(engine.submit(first));
      const chat = request([...first.promptIds, ...answer, 5, 6], { stopTokenIds: [] });
      const running = engine.submit(chat);
      expect(await collect(running)).toEqual(expected(chat, 64));
      // 21 + 6 tokens, of which the last never entered the cache: 26, six full blocks of 4.
      expect((await running.result).usage.cachedTokens).toBe(24);
      const same = engine.submit(chat);
      expect(await collect(same)).toEqual(expected(chat, 64));
      // At least one token is computed anew.
      expect((await same.result).usage.cachedTokens).toBe(28);
      expect(engine.status().kvBlocks.cached).toBeGreaterThan(0);
      await engine.clearPrefixCache();
      expect(engine.status().kvBlocks).toEqual({ total: 40, free: 40, cached: 0 });
      expect(stage.freeBlocks).toBe(40);
    }));

  it("computes a prompt once for those who send it at the same time", () =>
    withEngine({ maxTokens: 8 }, async (engine, stage) => {
      const wishes = [1n, 2n, 3n].map((seed) =>
        request(range(1, 30), { sampling: { ...GREEDY, seed }, maxNewTokens: 4, stopTokenIds: [] }),
      );
      const running = wishes.map((wish) => engine.submit(wish));
      expect(await Promise.all(running.map(collect))).toEqual(wishes.map((wish) => expected(wish, 64)));
      expect((await running[2]?.result)?.usage.cachedTokens).toBe(28);
      const prompts = stage.steps.flatMap(({ tokens }) => tokens).reduce((sum, count) => sum + count, 0);
      // 30 tokens of the first, 2 each of the others, and what is decoded, at most a few ahead.
      expect(prompts).toBeLessThan(30 + 2 * 2 + 3 * 3 + 1);
    }));

  it("keeps streams running beside a long prompt, and a prompt beside streams", () =>
    withEngine({ contextTokens: 128, blocks: 200, maxTokens: 8 }, async (engine, stage) => {
      const streams = [1, 2, 3].map((start) => engine.submit(request(range(start * 100, 3), { maxNewTokens: 60, stopTokenIds: [] })));
      const iterators = streams.map((stream) => stream[Symbol.asyncIterator]());
      for (const iterator of iterators) await iterator.next();
      const begin = stage.steps.length;
      const long = engine.submit(request(range(1, 50), { maxNewTokens: 2, stopTokenIds: [] }));
      const done = collect(long);
      for (const iterator of iterators) while ((await iterator.next()).done !== true);
      await done;
      const steps = stage.steps.slice(begin);
      const mixed = steps.filter(({ tokens }) => tokens.some((count) => count > 1));
      // 5 tokens a step are left for the prompt.
      expect(mixed.length).toBeLessThanOrEqual(10);
      for (const { tokens } of mixed) expect(tokens.filter((count) => count === 1).length).toBeGreaterThanOrEqual(3);
    }));

  it("lets the youngest compute again when blocks run out, which only the totals show", () =>
    withEngine({ blocks: 16 }, async (engine) => {
      const wishes = [1, 2, 3, 4].map((start) => request(range(start * 50, 10), { maxNewTokens: 40, stopTokenIds: [] }));
      const answers = await Promise.all(wishes.map((wish) => collect(engine.submit(wish))));
      expect(answers).toEqual(wishes.map((wish) => expected(wish, 64)));
      expect(engine.status().totals.preemptions).toBeGreaterThan(0);
    }));

  it("frees a request's blocks before its cancelling resolves: by signal, by cancel, by leaving the loop, while it waits", () =>
    withEngine(
      { maxSequences: 1 },
      async (engine, stage) => {
        const controller = new AbortController();
        const running = engine.submit(request(range(1, 10), { maxNewTokens: 50, stopTokenIds: [], signal: controller.signal }));
        const waiting = engine.submit(request(range(50, 10)));
        const iterator = running[Symbol.asyncIterator]();
        await iterator.next();
        await waiting.cancel(new Error("not wanted"));
        await expect(waiting.result).rejects.toThrow("not wanted");
        controller.abort(new Error("hung up"));
        await expect(running.result).rejects.toThrow("hung up");
        expect(stage.freeBlocks).toBe(40);
        const left = engine.submit(request(range(1, 10), { maxNewTokens: 50, stopTokenIds: [] }));
        for await (const _ of left) break;
        expect(stage.openSequences).toBe(0);
        await expect(left.result).rejects.toThrow("cancelled");
      },
      { prefixCache: false },
    ));

  it("refuses what could never run, by name, and goes on", () =>
    withEngine({}, async (engine) => {
      const bad: readonly [Partial<EngineRequest>, string][] = [
        [{ promptIds: [] }, "empty"],
        [{ promptIds: [1, -3] }, "promptIds[1] is -3"],
        [{ promptIds: [1000] }, "promptIds[0] is 1000, expected an id from 0 to 999"],
        [{ promptIds: range(0, 65) }, "65 tokens, expected at most 64"],
        [{ maxNewTokens: 0 }, "maxNewTokens"],
        [{ maxNewTokens: 1.5 }, "maxNewTokens"],
        [{ stopTokenIds: [1e9] }, "stopTokenIds[0]"],
        [{ sampling: { ...GREEDY, topP: 2 } }, "top-p"],
        [{ sampling: { ...GREEDY, repetitionPenalty: 0 } }, "repetition penalty"],
        [{ sampling: { ...GREEDY, presencePenalty: Number.NaN } }, "presence penalty"],
        [{ sampling: { ...GREEDY, frequencyPenalty: 1e6 } }, "frequency penalty"],
        [{ sampling: { ...GREEDY, logitBias: new Map([[1000, 1]]) } }, "biased token is 1000"],
        [{ sampling: { ...GREEDY, logitBias: new Map([[5, Number.POSITIVE_INFINITY]]) } }, "bias of token 5"],
        [{ topLogprobs: 21 }, "topLogprobs"],
        [{ promptLogprobs: true }, "promptLogprobs"],
      ];
      for (const [wrong, message] of bad) expect(() => engine.submit(request([1, 2], wrong))).toThrow(message);
      expect(() => engine.submit(request([1], { signal: AbortSignal.abort(new Error("gone")) }))).toThrow("gone");
      expect(await collect(engine.submit(request([1, 2])))).toEqual(expected(request([1, 2]), 64));
    }));

  it("drains: what runs ends as it should, nothing new is taken", () =>
    withEngine({}, async (engine) => {
      const wishes = range(0, 6).map((start) => request(range(start * 30 + 1, 5)));
      const answers = wishes.map((wish) => collect(engine.submit(wish)));
      const drained = engine.drain();
      expect(() => engine.submit(request([1]))).toThrow("drained");
      await drained;
      expect(engine.status().running + engine.status().waiting).toBe(0);
      expect(await Promise.all(answers)).toEqual(wishes.map((wish) => expected(wish, 64)));
    }));

  it("ends every request with the stage's error, and says so to later ones", async () => {
    const stage = new FakePagedStage(STAGE);
    const engine = await Engine.open(stage);
    const requests = [engine.submit(request(range(1, 10))), engine.submit(request(range(5, 10)))];
    stage.failure = new Error("the device burns");
    for (const running of requests) await expect(running.result).rejects.toThrow("the device burns");
    expect(() => engine.submit(request([1]))).toThrow("the device burns");
    await engine.drain();
  });

  it("goes on with the running requests on another stage when the device is lost", async () => {
    const stages = [new FakePagedStage(STAGE)];
    const engine = await Engine.open(stages[0] ?? new FakePagedStage(STAGE), {
      reopen: async () => {
        const stage = new FakePagedStage(STAGE);
        stages.push(stage);
        return stage;
      },
    });
    const wishes = range(0, 6).map((start) => request(range(start * 30 + 1, 9), { maxNewTokens: 50, stopTokenIds: [] }));
    const requests = wishes.map((wish) => engine.submit(wish));
    const first = requests[0]?.[Symbol.asyncIterator]();
    const turn0 = await first?.next();
    const begun = turn0?.done === false ? turn0.value : [];
    const broken = stages[0];
    if (broken) broken.failure = deviceLost();
    const rest: number[] = [];
    for (;;) {
      const turn = await first?.next();
      if (!turn || turn.done === true) break;
      rest.push(...turn.value.map(({ id }) => id));
    }
    const [, ...others] = requests;
    const answers = [[...begun.map(({ id }) => id), ...rest], ...(await Promise.all(others.map(collect)))];
    expect(answers).toEqual(wishes.map((wish) => expected(wish, 64)));
    expect(stages.length).toBe(2);
    await engine.close();
    expect(stages[1]?.freeBlocks).toBe(40);
  });

  it.each(WAITING_OR_CHAINED)("verifies no more drafts than a step has room for when another request joins, $how", ({ chains }) =>
    withEngine(
      { chains, mistaken: () => false, maxOutputs: 4, maxSequences: 2, maxTokens: 8 },
      async (engine, stage) => {
        const first = request(range(1, 3), { maxNewTokens: 50, stopTokenIds: [] });
        const running = engine.submit(first)[Symbol.asyncIterator]();
        const ids: number[] = [];
        const take = async (): Promise<boolean> => {
          const turn = await running.next();
          if (turn.done !== true) ids.push(...turn.value.map(({ id }) => id));
          return turn.done !== true;
        };
        await take();
        await take();
        expect(stage.steps.at(-1)?.sampled.length).toBe(4);
        const second = request([500], { maxNewTokens: 9, stopTokenIds: [] });
        expect(await collect(engine.submit(second))).toEqual(expected(second, 64));
        while (await take());
        expect(ids).toEqual(expected(first, 64));
      },
      { drafts: { least: 3 } },
    ),
  );

  it.each(WAITING_OR_CHAINED)(
    "gives the same tokens and log probabilities wherever the device is lost, also between a step and its drafts, $how",
    async ({ chains }) => {
      const options = { ...STAGE, chains, mistaken: (ids: readonly number[]) => ids.length % 5 === 0, maxOutputs: 16 };
      const asked: readonly Partial<EngineRequest>[] = [
        {},
        { sampling: { ...GREEDY, presencePenalty: 1 } },
        { sampling: { ...GREEDY, logitBias: new Map([[3, 1]]), seed: 4n } },
        { topLogprobs: 2, promptLogprobs: true },
        { sampling: { ...GREEDY, repetitionPenalty: 2 }, topLogprobs: 1 },
      ];
      const wishes = asked.map((more, index) => request(range(index * 30 + 1, 9), { maxNewTokens: 6, stopTokenIds: [], ...more }));
      const answer = async (lostAtCall: number): Promise<number> => {
        const stages = [new FakePagedStage({ ...options, lostAtCall })];
        const reopen = async (): Promise<FakePagedStage> => {
          const stage = new FakePagedStage(options);
          stages.push(stage);
          return stage;
        };
        const engine = await Engine.open(stages[0] ?? (await reopen()), { drafts: { least: 3 }, reopen });
        const answers = await Promise.all(wishes.map((wish) => collectTokens(engine.submit(wish))));
        expect(answers).toEqual(wishes.map((wish) => expectedTokens(wish, 64)));
        const calls = stages[0]?.calls ?? 0;
        await engine.close();
        if (stages.length > 1) expect(stages.at(-1)?.freeBlocks).toBe(STAGE.blocks);
        return calls;
      };
      const calls = await answer(0);
      expect(calls).toBeGreaterThan(30);
      for (let call = 1; call <= calls; call++) await answer(call);
    },
  );

  it("goes on when the stage that takes a lost one's place is lost before its first step, three times in a row at most", async () => {
    const attempt = async (stillborn: number): Promise<readonly number[]> => {
      const stages = [new FakePagedStage(STAGE)];
      const broken = stages[0];
      if (broken) broken.failure = deviceLost();
      const reopen = async (): Promise<FakePagedStage> => {
        const stage = new FakePagedStage(STAGE);
        stages.push(stage);
        if (stages.length <= stillborn + 1) stage.describe = () => Promise.reject(deviceLost());
        return stage;
      };
      const engine = await Engine.open(stages[0] ?? (await reopen()), { reopen });
      return collect(engine.submit(request([1, 2, 3])));
    };
    expect(await attempt(2)).toEqual(expected(request([1, 2, 3]), 64));
    await expect(attempt(3)).rejects.toThrow("pulled out");
  });

  it("gives up after losing the device again and again", async () => {
    const lost = (): FakePagedStage => {
      const stage = new FakePagedStage(STAGE);
      stage.failure = deviceLost();
      return stage;
    };
    const engine = await Engine.open(lost(), { reopen: async () => lost() });
    await expect(engine.submit(request([1, 2])).result).rejects.toThrow("pulled out");
  });

  it.each(WAITING_OR_CHAINED)("takes two tokens from steps whose draft was right, and the same tokens as without, $how", ({ chains }) =>
    withEngine(
      { chains, mistaken: (ids) => ids.length % 3 === 0, maxOutputs: 8 },
      async (engine, stage) => {
        const wishes = [1, 2, 3].map((start) => request(range(start * 50, 10), { maxNewTokens: 40, stopTokenIds: [] }));
        const answers = await Promise.all(wishes.map((wish) => collect(engine.submit(wish))));
        expect(answers).toEqual(wishes.map((wish) => expected(wish, 64)));
        // Two of three drafts are right: 40 tokens in some 24 steps, not 40; the prompts take two more.
        expect(stage.steps.length).toBeLessThan(32);
        const { draftTokens, acceptedDraftTokens } = engine.status().totals;
        // Each of the 120 tokens was drafted and right, or came after a draft that was verified, but for the prompts' three.
        expect(acceptedDraftTokens + draftTokens).toBeLessThanOrEqual(117);
        // A chain's places are as if all drafts were right: at an answer's end, as long as it is not known which were, there seems to be no room for another.
        expect(acceptedDraftTokens + draftTokens).toBeGreaterThan(chains ? 105 : 111);
        expect(acceptedDraftTokens).toBeGreaterThan(30);
      },
      { drafts: { least: 1, most: 1 } },
    ),
  );

  it.each(WAITING_OR_CHAINED)(
    "takes up to four tokens from a step, to the last of the context and of the answer, and the same tokens as without, $how",
    ({ chains }) =>
      withEngine(
        { chains, mistaken: (ids) => ids.length % 7 === 0, maxOutputs: 12 },
        async (engine, stage) => {
          const wishes = [54, 40, 17].map((most, index) => request(range(index * 50 + 1, 10), { maxNewTokens: most, stopTokenIds: [] }));
          const answers = await Promise.all(wishes.map((wish) => collect(engine.submit(wish))));
          expect(answers).toEqual(wishes.map((wish) => expected(wish, 64)));
          // Of seven tokens one is drafted wrong, which takes two steps of 4 and 3 tokens: 54 in some 16.
          expect(stage.steps.length).toBeLessThan(24);
          const before = { steps: stage.steps.length, drafts: stage.drafts.length };
          await collect(engine.submit(request([7], { maxNewTokens: 1, stopTokenIds: [] })));
          expect({ steps: stage.steps.length, drafts: stage.drafts.length }).toEqual({ ...before, steps: before.steps + 1 });
          const whole = request(range(1, 60), { maxNewTokens: 1000, stopTokenIds: [] });
          expect(await collect(engine.submit(whole))).toEqual(expected(whole, 64));
        },
        { drafts: { least: 3 } },
      ),
  );

  it("gives log probabilities to those who ask for them, of the prompt's tokens too, in steps that have few rows for that", () =>
    withEngine({ maxOutputs: 5 }, async (engine, stage) => {
      const wishes = [
        request(range(1, 30), { topLogprobs: 3, promptLogprobs: true }),
        request(range(40, 9), { topLogprobs: 0 }),
        request(range(50, 9)),
        // Its beginning is in the cache by then, or is about to be.
        request(range(1, 30), { topLogprobs: 20, promptLogprobs: true }),
      ];
      const answers = await Promise.all(wishes.map((wish) => collectTokens(engine.submit(wish))));
      expect(answers).toEqual(wishes.map((wish) => expectedTokens(wish, 64)));
      const begin = stage.steps.length;
      expect(await collect(engine.submit(request(range(50, 9))))).toEqual(expected(request(range(50, 9)), 64));
      expect(stage.steps.slice(begin).flatMap(({ logprobs }) => logprobs)).toEqual([]);
    }));

  it.each(WAITING_OR_CHAINED)(
    "drafts for those whose tokens do not depend on what came before, in the same steps as the others, $how",
    ({ chains }) =>
      withEngine(
        { chains, mistaken: () => false, maxOutputs: 8 },
        async (engine, stage) => {
          const penalized = { ...GREEDY, presencePenalty: 1 };
          const alone = request(range(1, 10), { maxNewTokens: 20, stopTokenIds: [], sampling: penalized });
          expect(await collect(engine.submit(alone))).toEqual(expected(alone, 64));
          expect(stage.drafts.length).toBe(0);
          const biased = { ...GREEDY, logitBias: new Map([[3, 1]]) };
          const wishes = [GREEDY, penalized, biased].map((sampling, index) =>
            request(range(index * 50 + 20, 10), { maxNewTokens: 40, stopTokenIds: [], sampling, topLogprobs: 1 }),
          );
          const begin = stage.steps.length;
          const answers = await Promise.all(wishes.map((wish) => collectTokens(engine.submit(wish))));
          expect(answers).toEqual(wishes.map((wish) => expectedTokens(wish, 64)));
          // A step that verifies two drafts and chooses one token more.
          expect(stage.steps.slice(begin).filter(({ sampled }) => sampled.length === 5).length).toBeGreaterThan(10);
        },
        { drafts: { least: 1, most: 1 } },
      ),
  );

  it.each(WAITING_OR_CHAINED)("tries drafts and plain steps, and keeps the answers, $how", ({ chains }) =>
    withEngine({ chains, mistaken: () => false, maxOutputs: 8, contextTokens: 400, blocks: 200 }, async (engine, stage) => {
      const wish = request(range(1, 5), { maxNewTokens: 390, stopTokenIds: [] });
      expect(await collect(engine.submit(wish))).toEqual(expected(wish, 400));
      const plain = stage.steps.filter(({ sampled }) => sampled.length === 1).length;
      expect(plain).toBeGreaterThan(10);
      expect(stage.drafts.length).toBeGreaterThan(1);
      // Not for short answers: those end before drafts have paid.
      const before = stage.drafts.length;
      const short = request(range(1, 5), { maxNewTokens: chains ? 7 : 16, stopTokenIds: [] });
      expect(await collect(engine.submit(short))).toEqual(expected(short, 400));
      expect(stage.drafts.length).toBe(before);
    }),
  );

  for (const seed of range(1, 40))
    it(`answers a random crowd as each alone would be, with seed ${seed}`, async () => {
      const random = randomOf(seed);
      const blocks = 16 + random(30);
      const maxSequences = 1 + random(6);
      const pause = (): Promise<void> =>
        new Promise((resolve) => (random(3) === 0 ? setTimeout(resolve, random(3)) : queueMicrotask(resolve)));
      const mistaken = (ids: readonly number[]): boolean => ids.length % 4 === 0;
      const drafts = [{ mistaken, maxOutputs: 2 * maxSequences, chains: seed % 4 > 1 }, {}][random(2)];
      const stage = { blocks, maxSequences, maxTokens: 2 * maxSequences + random(20), beforeRead: pause, ...drafts };
      await withEngine(
        stage,
        async (engine) => {
          const client = async (): Promise<void> => {
            for (let turn = 0; turn < 6; turn++) {
              const shared = range(1, random(30));
              const wish = request([...shared, ...range(random(900), 1 + random(20))], {
                maxNewTokens: 1 + random(60),
                sampling: {
                  ...GREEDY,
                  seed: BigInt(random(5)),
                  ...(random(4) === 0 && { frequencyPenalty: 0.5 }),
                  ...(random(4) === 0 && { logitBias: new Map([[random(900), 2]]) }),
                },
                ...(random(3) === 0 && { topLogprobs: random(21), promptLogprobs: random(2) === 0 }),
              });
              await pause();
              const running = engine.submit(wish);
              if (random(4) === 0) {
                let left = random(10);
                for await (const tokens of running) if ((left -= tokens.length) < 0) break;
                continue;
              }
              const tokens = await collectTokens(running);
              const result: EngineResult = await running.result;
              expect(tokens).toEqual(expectedTokens(wish, 64));
              const own = tokens.filter(({ prompt = false }) => !prompt).length;
              expect(result.usage.completionTokens - own).toBe(result.finishReason === "stop" ? 1 : 0);
            }
          };
          await Promise.all(range(0, 8).map(client));
          const { kvBlocks, running, waiting } = engine.status();
          expect({ running, waiting }).toEqual({ running: 0, waiting: 0 });
          expect(kvBlocks.free + kvBlocks.cached).toBe(blocks);
        },
        { prefixCache: random(4) > 0, ...(random(3) > 0 && { drafts: { least: 1 + random(3) } }) },
      );
    });
});
