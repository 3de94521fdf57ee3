/**
 * What serving many requests at once brings, as ratios measured in one run on the embedded model: `deno run -A packages/engine/bench/requests.ts [wgpu|dawn] [many|prefix|chats] [--sets N] [--rounds N] [--ways none,1,2,3,choice]`.
 * The options are for chats (chats.ts). Each comparison is warmed up, and its answers are compared before its times are.
 */
import { parseArgs } from "node:util";
import { Engine, type EngineOptions, type EngineRequest, GREEDY } from "@shoal/engine";
import type { LocalStage } from "@shoal/model";
import { Models, readGolden } from "@shoal/model/testing";
import { WAYS, measureChats } from "./chats.ts";

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

const { values, positionals } = parseArgs({
  args: Deno.args,
  options: {
    sets: { type: "string", default: "3" },
    rounds: { type: "string", default: "9" },
    ways: { type: "string", default: Object.keys(WAYS).join() },
  },
  allowPositionals: true,
});
const [webgpu = "dawn", only] = positionals;
const [sets, rounds, ways] = [Number(values.sets), Number(values.rounds), values.ways.split(",")];
if (!Number.isSafeInteger(sets) || sets < 1) throw new RangeError(`Cannot measure ${values.sets} sets, expected at least 1`);
if (!Number.isSafeInteger(rounds) || rounds < 1) throw new RangeError(`Cannot measure ${values.rounds} rounds, expected at least 1`);
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
/** What is compared lies next to each other in each round, so that what else the machine does meets both; what is told is the median of the rounds, and what half of them lie within. */
function spread(values: readonly number[], digits = 2): string {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number): string => (sorted[Math.round((sorted.length - 1) * share)] ?? 0).toFixed(digits);
  return `${at(0.5)} (half of ${sorted.length}: ${at(0.25)} to ${at(0.75)})`;
}

async function many(): Promise<void> {
  const together = (engine: Engine): Promise<Awaited<ReturnType<typeof answer>>[]> =>
    Promise.all(drawn.map((request) => answer(engine, request)));
  await withEngine(stage, plain, (engine) =>
    withEngine(stage, { prefixCache: false }, async (drafting) => {
      await together(engine);
      await together(drafting);
      const [ratios, drafted, equal] = [[] as number[], [] as number[], new Set<string>()];
      for (let i = 0; i < 5; i++) {
        const [one, oneMs] = await timed(async () => {
          const all: Awaited<ReturnType<typeof answer>>[] = [];
          for (const request of drawn) all.push(await answer(engine, request));
          return all;
        });
        const [crowd, crowdMs] = await timed(() => together(engine));
        const [withDrafts, withDraftsMs] = await timed(() => together(drafting));
        ratios.push(oneMs / crowdMs);
        drafted.push(crowdMs / withDraftsMs);
        equal.add(`${same(one, crowd)}, with drafts ${same(crowd, withDrafts)}`);
      }
      console.log(`${REQUESTS} requests at once: ${spread(ratios)} times as fast as one after another (${[...equal].join("; ")})`);
      console.log(`${REQUESTS} requests at once, the engine's choice of drafts: ${spread(drafted)} times as fast as without`);
    }),
  );
}

async function prefix(): Promise<void> {
  await withEngine(stage, { drafts: false }, async (engine) => {
    const long: EngineRequest = { promptIds: haystack.ints("input_ids"), maxNewTokens: 8, sampling: GREEDY, stopTokenIds: [] };
    await answer(engine, long);
    const [shares, equal] = [[] as number[], new Set<string>()];
    for (let i = 0; i < 5; i++) {
      await engine.clearPrefixCache();
      const cold = await answer(engine, long);
      const warm = await answer(engine, long);
      shares.push((100 * warm.firstTokenMs) / cold.firstTokenMs);
      equal.add(same([cold], [warm]));
    }
    console.log(
      `first token after a shared prefix of ${long.promptIds.length - 1} tokens: ${spread(shares, 1)} % of a cold one's time (${[...equal].join("; ")})`,
    );
  });
}

const SECTIONS: Readonly<Record<string, () => Promise<void>>> = { many, prefix, chats: () => measureChats(stage, { sets, rounds, ways }) };
if (only !== undefined && !Object.hasOwn(SECTIONS, only))
  throw new RangeError(`Cannot measure '${only}', expected ${Object.keys(SECTIONS).join(", ")}`);
for (const [name, section] of Object.entries(SECTIONS)) if (only === undefined || only === name) await section();
await models.closing().run();
Deno.exit(0);
