/**
 * Many requests at once on the trained model. Greedy answers are held to the golden files' of the reference implementation, whatever runs beside them: a row's sums depend on how many
 * rows its step has (docs/architecture.md, Numerics), so the prompts are those whose answers do not hang on a tie.
 */
import { readFile } from "node:fs/promises";
import type { LocalStage } from "@shoal/model";
import { type DenoEngine, type GpuTest, Models, check, logitsOf, logprobsReference, readGolden, report } from "@shoal/model/testing";
import { Engine, type EngineOptions, type EngineRequest, GREEDY, type GeneratedToken, type RunningRequest } from "@shoal/engine";
import { GrammarConstraints, spawnGrammarWorker, vocabularyOf } from "@shoal/engine/constrained";
import { tinyModelUrl } from "@shoal/tiny-model";
import { type Tokenizer, loadTokenizer } from "@shoal/tokenizer";

interface KnownAnswer {
  readonly name: string;
  readonly promptIds: readonly number[];
  readonly answer: readonly number[];
}

const CASES = ["capital", "story", "sum_sys", "multiturn", "haystack600"];

async function known(names: readonly string[] = CASES): Promise<readonly KnownAnswer[]> {
  return Promise.all(
    names.map(async (name) => {
      const golden = await readGolden(`tiny-${name}.safetensors`);
      return { name, promptIds: golden.ints("input_ids"), answer: golden.ints("greedy_w8a32") };
    }),
  );
}

function greedy({ promptIds, answer }: KnownAnswer): EngineRequest {
  return { promptIds, maxNewTokens: answer.length, sampling: GREEDY, stopTokenIds: [] };
}

async function ids(running: RunningRequest): Promise<readonly number[]> {
  const all: number[] = [];
  for await (const tokens of running) all.push(...tokens.map(({ id }) => id));
  return all;
}

async function generated(running: RunningRequest): Promise<readonly GeneratedToken[]> {
  const all: GeneratedToken[] = [];
  for await (const tokens of running) all.push(...tokens);
  return all;
}

const EOS = 1;
const TALE = {
  type: "object",
  properties: { text: { type: "string", minLength: 100, maxLength: 160 }, pages: { type: "integer", minimum: 1, maximum: 99 } },
  required: ["text", "pages"],
};

async function tinyTokenizer(): Promise<Tokenizer> {
  const text = (name: string): Promise<string> => readFile(new URL(name, tinyModelUrl), "utf8");
  return loadTokenizer({ tokenizerJson: await text("tokenizer.json"), tokenizerConfigJson: await text("tokenizer_config.json") });
}

/** Answers of three tokens drawn at temperature 1, for the frequencies test. */
const DRAWS = 120;
/** Answers expected less often than this are counted as one. */
const LEAST_EXPECTED = 3;

/** Pearson's chi-squared test of whole answers against the probabilities that came with their tokens. */
function checkFrequencies(answers: readonly (readonly GeneratedToken[])[]): void {
  const seen = new Map<string, { count: number; expected: number }>();
  for (const answer of answers) {
    const key = answer.map(({ id }) => id).join();
    const expected = answers.length * Math.exp(answer.reduce((sum, { logprob = 0 }) => sum + logprob, 0));
    seen.set(key, { count: (seen.get(key)?.count ?? 0) + 1, expected });
  }
  const often = [...seen.values()].filter(({ expected }) => expected >= LEAST_EXPECTED);
  const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
  const rest = {
    count: answers.length - sum(often.map(({ count }) => count)),
    expected: answers.length - sum(often.map(({ expected }) => expected)),
  };
  const bins = [...often, rest];
  const statistic = sum(bins.map(({ count, expected }) => (count - expected) ** 2 / Math.max(expected, 1e-9)));
  const degrees = bins.length - 1;
  // Six standard deviations: the seeds are fixed, so it is drawn once and for all.
  const most = degrees + 6 * Math.sqrt(2 * degrees);
  report(`${seen.size} different answers, chi-squared ${statistic.toFixed(1)} at ${degrees} degrees of freedom`);
  check(degrees >= 3, `only ${degrees + 1} kinds of answers are frequent enough`);
  check(statistic < most, `chi-squared is ${statistic.toFixed(1)} at ${degrees} degrees of freedom, expected less than ${most.toFixed(1)}`);
}

async function checkAnswers(engine: Engine, answers: readonly KnownAnswer[], requests: readonly RunningRequest[]): Promise<void> {
  const got = await Promise.all(requests.map(ids));
  for (const [index, { name, answer }] of answers.entries())
    check(got[index]?.join() === answer.join(), `'${name}': ${got[index]?.join()}, expected ${answer.join()}`);
  const { kvBlocks } = engine.status();
  check(
    kvBlocks.free + kvBlocks.cached === kvBlocks.total,
    `${kvBlocks.free} blocks free and ${kvBlocks.cached} cached of ${kvBlocks.total}`,
  );
}

export function tests(gpuEngine: DenoEngine): readonly GpuTest[] {
  const models = new Models(gpuEngine);
  /** One stage for all, so that each kernel is compiled once; `kvTokens` is a pool for all of them. */
  const stage = (): Promise<LocalStage> =>
    models.stage("tiny", {
      mode: "w8a32",
      contextTokens: 2048,
      kvTokens: 4096,
      maxTokens: 256,
      maxOutputs: 16,
      maxSequences: 8,
      mtp: true,
    });
  const withEngine = async (
    use: (engine: Engine, on: LocalStage) => Promise<void>,
    options: EngineOptions = { drafts: false },
  ): Promise<void> => {
    const on = await stage();
    const engine = await Engine.open(on, options);
    await use(engine, on);
    await engine.close();
    const { freeKvBlocks } = await on.describe();
    check(freeKvBlocks === 128, `${freeKvBlocks} of 128 blocks are free in the end`);
  };

  return [
    {
      name: "five requests at once get the reference's greedy answers, and again from the prefix cache",
      run: () =>
        withEngine(async (engine) => {
          const answers = await known();
          await checkAnswers(
            engine,
            answers,
            answers.map((answer) => engine.submit(greedy(answer))),
          );
          const again = answers.map((answer) => engine.submit(greedy(answer)));
          await checkAnswers(engine, answers, again);
          for (const [index, request] of again.entries()) {
            const { cachedTokens } = (await request.result).usage;
            const prompt = answers[index]?.promptIds.length ?? 0;
            const most = Math.floor((prompt - 1) / 32) * 32;
            check(cachedTokens === most, `'${answers[index]?.name}': ${cachedTokens} of ${prompt} tokens were cached, expected ${most}`);
          }
          const { totals } = engine.status();
          report(
            `${totals.steps} steps for ${totals.promptTokens} prompt tokens, ${totals.cachedTokens} of them cached, and ${totals.completionTokens} chosen`,
          );
        }),
    },
    {
      name: "with drafts that are verified four requests at once get the same answers, in fewer steps; and so does one drawn by a seed",
      run: async () => {
        const answers = await known(["capital", "story", "sum_sys", "multiturn"]);
        const drawn = (promptIds: readonly number[]): EngineRequest => ({
          promptIds,
          maxNewTokens: 32,
          sampling: { temperature: 1.2, topP: 0.98, topK: 0, minP: 0, seed: 11n },
          stopTokenIds: [],
        });
        const results: { readonly ids: string; readonly steps: number }[] = [];
        for (const drafts of [false, { least: 3 }] as const)
          await withEngine(
            async (engine) => {
              await checkAnswers(
                engine,
                answers,
                answers.map((answer) => engine.submit(greedy(answer))),
              );
              const before = engine.status().totals.steps;
              const story = await ids(engine.submit(drawn(answers[1]?.promptIds ?? [])));
              results.push({ ids: story.join(), steps: engine.status().totals.steps - before });
            },
            { drafts },
          );
        const [plain, drafted] = results;
        check(drafted?.ids === plain?.ids, `drawn with drafts ${drafted?.ids}, without ${plain?.ids}`);
        report(`${plain?.steps} steps for 32 tokens without drafts, ${drafted?.steps} with`);
        check((drafted?.steps ?? 32) < 24, "no fewer steps");
      },
    },
    {
      name: "answers that follow a schema are the same with verified drafts and without, greedy and drawn, beside one that is free",
      run: async () => {
        const [story] = await known(["story"]);
        if (!story) throw new Error("no prompt");
        const tokenizer = await tinyTokenizer();
        const vocabulary = vocabularyOf(tokenizer, { size: (await stage()).config.vocabSize, stopTokenIds: [EOS], marks: [] });
        const constraints = new GrammarConstraints({ spawn: spawnGrammarWorker, vocabulary });
        const wish = (temperature: number): EngineRequest => ({
          promptIds: story.promptIds,
          maxNewTokens: 120,
          sampling: { ...GREEDY, temperature, seed: 5n },
          stopTokenIds: [EOS],
          constraint: { grammar: { kind: "json-schema", schema: JSON.stringify(TALE), compact: true } },
        });
        const results: { readonly texts: readonly string[]; readonly steps: number }[] = [];
        for (const drafts of [false, { least: 3 }] as const)
          await withEngine(
            async (engine) => {
              const alone = tokenizer.decode(await ids(engine.submit(wish(0))));
              const { steps } = engine.status().totals;
              const crowd = [wish(0.8), greedy(story)].map((request) => engine.submit(request));
              const texts = await Promise.all(crowd.map(async (running) => tokenizer.decode(await ids(running))));
              results.push({ texts: [alone, ...texts], steps });
            },
            { drafts, constraints },
          );
        constraints.destroy();
        const [plain, drafted] = results;
        for (const json of plain?.texts.slice(0, 2) ?? []) {
          const { text, pages } = JSON.parse(json) as { text: unknown; pages: unknown };
          check(
            typeof text === "string" && text.length >= 100 && text.length <= 160 && Number.isInteger(pages),
            `${json} does not follow the schema`,
          );
        }
        check(plain?.texts[2] === tokenizer.decode(story.answer), `beside the others the story was ${plain?.texts[2]}`);
        check(
          drafted?.texts.join("\n") === plain?.texts.join("\n"),
          `with drafts ${drafted?.texts.join("\n")}, without ${plain?.texts.join("\n")}`,
        );
        report(`${plain?.texts[0]}: ${plain?.steps} steps without drafts, ${drafted?.steps} with`);
        check((drafted?.steps ?? 0) < (plain?.steps ?? 0), "no draft was right");
      },
    },
    {
      name: "the same seed gives the same tokens alone and beside others, some of which are aborted",
      run: () =>
        withEngine(async (engine) => {
          const [capital, story] = await known(["capital", "story"]);
          if (!capital || !story) throw new Error("no prompts");
          const adjustments = {
            frequencyPenalty: 0.8,
            presencePenalty: 0.4,
            repetitionPenalty: 1.3,
            logitBias: new Map([[story.promptIds[3] ?? 0, 4]]),
          };
          const drawn = (seed: bigint): EngineRequest => ({
            promptIds: story.promptIds,
            maxNewTokens: 24,
            sampling: { temperature: 2.5, topP: 1, topK: 0, minP: 0, seed, ...(seed === 2n && adjustments) },
            stopTokenIds: [],
          });
          const alone = [await ids(engine.submit(drawn(1n))), await ids(engine.submit(drawn(2n)))];
          await engine.clearPrefixCache();
          check(alone[0]?.join() !== alone[1]?.join(), "two seeds gave the same tokens");
          const controller = new AbortController();
          const aborted = engine.submit({ ...drawn(3n), maxNewTokens: 500, signal: controller.signal });
          const crowd = [engine.submit(drawn(1n)), engine.submit(greedy(capital)), engine.submit(drawn(2n))];
          await aborted[Symbol.asyncIterator]().next();
          controller.abort(new Error("enough"));
          const [first, answer, second] = await Promise.all(crowd.map(ids));
          check((await aborted.result.catch((error: unknown) => String(error))) === "Error: enough", "the aborted request did not end so");
          check(first?.join() === alone[0]?.join(), `seed 1 gave ${first?.join()}, alone ${alone[0]?.join()}`);
          check(second?.join() === alone[1]?.join(), `seed 2 gave ${second?.join()}, alone ${alone[1]?.join()}`);
          check(answer?.join() === capital.answer.join(), `the greedy answer was ${answer?.join()}`);
        }),
    },
    {
      name: "tokens drawn with verified drafts come as often as the model says, and are those drawn without",
      run: async () => {
        const drawn = (seed: number): EngineRequest => ({
          // Nonsense, after which the model is not sure of anything.
          promptIds: [0, 300, 400, 500],
          maxNewTokens: 3,
          sampling: { temperature: 1, topP: 1, topK: 0, minP: 0, seed: BigInt(seed) },
          stopTokenIds: [],
          topLogprobs: 0,
        });
        const results: { readonly texts: readonly string[]; readonly steps: number }[] = [];
        for (const drafts of [false, { least: 1 }] as const)
          await withEngine(
            async (engine) => {
              const requests = Array.from({ length: DRAWS }, (_, seed) => engine.submit(drawn(seed)));
              const answers = await Promise.all(requests.map(generated));
              results.push({ texts: answers.map((answer) => answer.map(({ id }) => id).join()), steps: engine.status().totals.steps });
              checkFrequencies(answers);
            },
            { drafts },
          );
        const [plain, drafted] = results;
        const other = plain?.texts.filter((text, seed) => text !== drafted?.texts[seed]) ?? [];
        check(other.length === 0, `${other.length} of ${DRAWS} answers are others with drafts`);
        report(`${plain?.steps} steps without drafts, ${drafted?.steps} with`);
        check((drafted?.steps ?? 0) < (plain?.steps ?? 0), "no draft was right");
      },
    },
    {
      name: "log probabilities of a prompt's tokens and of the answer's are those of the model's logits",
      run: () =>
        withEngine(async (engine, on) => {
          const [story, capital] = await known(["story", "capital"]);
          if (!story || !capital) throw new Error("no prompts");
          const request = { ...greedy(story), maxNewTokens: 6, topLogprobs: 5, promptLogprobs: true };
          const [tokens] = await Promise.all([generated(engine.submit(request)), ids(engine.submit(greedy(capital)))]);
          const whole = [...story.promptIds, ...story.answer.slice(0, 6)];
          check(
            tokens.map(({ id }) => id).join() === whole.slice(1).join(),
            `${tokens.map(({ id }) => id).join()}, expected ${whole.slice(1).join()}`,
          );
          const vocab = on.config.vocabSize;
          const sequence = await on.open();
          const rows = await logitsOf(on, sequence, whole.slice(0, -1), 16);
          await on.close(sequence);
          let worst = 0;
          for (const [index, token] of tokens.entries()) {
            const expected = logprobsReference(rows.subarray(index * vocab, (index + 1) * vocab), token.id, 5);
            check(
              (token.prompt === true) === index < story.promptIds.length - 1,
              `token ${index + 1} is said to be the prompt's: ${token.prompt}`,
            );
            const pairs = [
              [token.logprob, expected.chosen],
              ...expected.top.map(({ logprob }, rank) => [token.topLogprobs?.[rank]?.logprob, logprob]),
            ];
            check(token.topLogprobs?.length === 5, `token ${index + 1} has ${token.topLogprobs?.length} likeliest`);
            for (const [actual = Number.NaN, wanted = 0] of pairs) {
              check(Math.abs(actual - wanted) < 1e-2, `token ${index + 1}: ${actual}, expected ${wanted}`);
              worst = Math.max(worst, Math.abs(actual - wanted));
            }
          }
          report(`largest difference ${worst.toExponential(1)} in ${tokens.length} tokens`);
        }),
    },
    {
      name: "requests that outgrow the KV cache together give way to each other, and get the reference's answers",
      run: async () => {
        const on = await models.stage("tiny", {
          mode: "w8a32",
          contextTokens: 256,
          kvTokens: 256,
          maxTokens: 64,
          maxOutputs: 8,
          maxSequences: 8,
        });
        const engine = await Engine.open(on);
        const [story] = await known(["story"]);
        if (!story) throw new Error("no prompt");
        // The same story, begun at different places: 8 blocks hold two of them to their end.
        const answers = [0, 1, 2, 3, 4, 5].map((begun) => ({
          name: `story from ${begun}`,
          promptIds: [...story.promptIds, ...story.answer.slice(0, begun)],
          answer: story.answer.slice(begun),
        }));
        await checkAnswers(
          engine,
          answers,
          answers.map((answer) => engine.submit(greedy(answer))),
        );
        const { preemptions } = engine.status().totals;
        check(preemptions > 0, "nobody gave way");
        report(`${preemptions} preemptions`);
        await engine.close();
        const { freeKvBlocks } = await on.describe();
        check(freeKvBlocks === 8, `${freeKvBlocks} of 8 blocks are free in the end`);
      },
    },
    models.closing(),
  ];
}
