/**
 * What serving many requests at once brings, as ratios measured in one run on the embedded model: `deno run -A packages/engine/bench/requests.ts [wgpu|dawn] [many|prefix|chats]`.
 * Each comparison is warmed up, and its answers are compared before its times are.
 */
import { Engine, type EngineOptions, type EngineRequest, GREEDY } from "@shoal/engine";
import type { LocalStage } from "@shoal/model";
import { Models, readGolden } from "@shoal/model/testing";

const REQUESTS = 16;
const NEW_TOKENS = 48;

async function answer(engine: Engine, request: EngineRequest): Promise<{ readonly text: string; readonly firstTokenMs: number }> {
  const running = engine.submit(request);
  const ids: number[] = [];
  for await (const tokens of running) ids.push(...tokens.map(({ id }) => id));
  return { text: ids.join(), firstTokenMs: (await running.result).timings.firstTokenMs };
}

async function timed<T>(work: () => Promise<T>): Promise<readonly [T, number]> {
  const begin = performance.now();
  return [await work(), performance.now() - begin];
}

async function withEngine<T>(stage: LocalStage, options: EngineOptions, use: (engine: Engine) => Promise<T>): Promise<T> {
  const engine = await Engine.open(stage, options);
  const result = await use(engine);
  await engine.close();
  return result;
}

function same(a: readonly { readonly text: string }[], b: readonly { readonly text: string }[]): string {
  const equal = a.filter(({ text }, index) => text === b[index]?.text).length;
  return `${equal} of ${a.length} answers equal`;
}

const [webgpu = "dawn", only] = Deno.args;
if (webgpu !== "wgpu" && webgpu !== "dawn") throw new RangeError(`Cannot use '${webgpu}', expected wgpu or dawn`);
const models = new Models(webgpu);
const stage = await models.stage("tiny", {
  kvFormat: "f16",
  contextTokens: 2048,
  kvTokens: 8192,
  maxSequences: 16,
  maxOutputs: 32,
  maxTokens: 256,
  mtp: true,
});
const [story, haystack] = [await readGolden("tiny-story.safetensors"), await readGolden("tiny-haystack1900.safetensors")];
const prompt = story.ints("input_ids");

const drawn = Array.from({ length: REQUESTS }, (_, index): EngineRequest => ({
  promptIds: prompt,
  maxNewTokens: NEW_TOKENS,
  sampling: { ...GREEDY, temperature: 0.7, seed: BigInt(index) },
  stopTokenIds: [],
}));
const plain = { drafts: false, prefixCache: false } as const;
async function many(): Promise<void> {
  await withEngine(stage, plain, async (engine) => {
    const together = (): Promise<Awaited<ReturnType<typeof answer>>[]> => Promise.all(drawn.map((request) => answer(engine, request)));
    await together();
    const [one, oneMs] = await timed(async () => {
      const all: Awaited<ReturnType<typeof answer>>[] = [];
      for (const request of drawn) all.push(await answer(engine, request));
      return all;
    });
    const [many, manyMs] = await timed(together);
    console.log(`${REQUESTS} requests at once: ${(oneMs / manyMs).toFixed(2)} times as fast as one after another (${same(one, many)})`);
  });
}

async function prefix(): Promise<void> {
  await withEngine(stage, { drafts: false }, async (engine) => {
    const long: EngineRequest = { promptIds: haystack.ints("input_ids"), maxNewTokens: 8, sampling: GREEDY, stopTokenIds: [] };
    await answer(engine, long);
    await engine.clearPrefixCache();
    const cold = await answer(engine, long);
    const warm = await answer(engine, long);
    const share = (100 * warm.firstTokenMs) / cold.firstTokenMs;
    console.log(
      `first token after a shared prefix of ${long.promptIds.length - 1} tokens: ${share.toFixed(1)} % of a cold one's time (${same([cold], [warm])})`,
    );
  });
}

// Chats, to their own ends: behind its end a model has nothing to say that could be guessed.
const chats = await Promise.all(["capital", "story", "sum_sys", "multiturn"].map((name) => readGolden(`tiny-${name}.safetensors`)));
const questions = chats.map((golden): EngineRequest => ({
  promptIds: golden.ints("input_ids"),
  maxNewTokens: golden.ints("greedy_w8a32").length,
  sampling: GREEDY,
  stopTokenIds: [1],
}));
/** Each way in every round, so that what else the machine does meets all of them. */
const ROUNDS = 5;
const WAYS = {
  "no drafts": false,
  "1 draft": { least: 1, most: 1 },
  "2 drafts": { least: 2, most: 2 },
  "3 drafts": { least: 3, most: 3 },
  "always drafting": { least: 1 },
  "the engine's choice": {},
} as const satisfies Record<string, EngineOptions["drafts"]>;

interface Way {
  readonly name: string;
  readonly engine: Engine;
  answers: readonly { readonly text: string }[];
  readonly ms: number[];
  steps: number;
  tokens: number;
}

async function round(way: Way): Promise<void> {
  const before = way.engine.status().totals;
  const [answers, ms] = await timed(async () => {
    const all: Awaited<ReturnType<typeof answer>>[] = [];
    for (const request of questions) all.push(await answer(way.engine, request));
    return all;
  });
  const after = way.engine.status().totals;
  way.answers = answers;
  way.ms.push(ms);
  way.steps += after.steps - before.steps;
  way.tokens += after.completionTokens - before.completionTokens;
}

async function chatting(): Promise<void> {
  const ways: Way[] = [];
  for (const [name, drafts] of Object.entries(WAYS)) {
    const engine = await Engine.open(stage, { drafts, prefixCache: false });
    ways.push({ name, engine, answers: [], ms: [], steps: 0, tokens: 0 });
  }
  for (const way of ways) {
    await round(way);
    Object.assign(way, { steps: 0, tokens: 0 });
    way.ms.length = 0;
  }
  for (let i = 0; i < ROUNDS; i++) for (const way of ways) await round(way);
  const [first] = ways;
  const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
  if (first)
    for (const { name, answers, ms, tokens, steps } of ways) {
      // Of the rounds' ratios, whose two times lie next to each other.
      const ratio = median(ms.map((time, index) => (first.ms[index] ?? 0) / time));
      console.log(
        `chats, ${name}: ${(tokens / steps).toFixed(2)} tokens a step, prompts' steps included; ${ratio.toFixed(2)} times as fast as without (${same(first.answers, answers)})`,
      );
    }
  for (const { engine } of ways) await engine.close();
}

const SECTIONS: Readonly<Record<string, () => Promise<void>>> = { many, prefix, chats: chatting };
if (only !== undefined && !Object.hasOwn(SECTIONS, only))
  throw new RangeError(`Cannot measure '${only}', expected ${Object.keys(SECTIONS).join(", ")}`);
for (const [name, section] of Object.entries(SECTIONS)) if (only === undefined || only === name) await section();
await models.closing().run();
Deno.exit(0);
