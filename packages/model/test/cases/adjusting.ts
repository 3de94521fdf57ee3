/** Bias, penalties, masks and log-probabilities in a stage's steps, held to the CPU's arithmetic on the logits of the same steps. */
import { TOP_LOGPROBS } from "@shoal/kernels";
import { type AdjustedRow, adjustReference, logprobsReference, sampleReference } from "@shoal/kernels/testing";
import type { BatchEntry, ChosenLogprobs, LocalStage, SamplingParameters, SequenceSlot } from "@shoal/model";
import { check } from "../support/compare.ts";
import { logits, logitsOf, prefill, withSequence } from "../support/drive.ts";
import { readGolden } from "../support/golden.ts";
import type { GpuTest, Models } from "../support/models.ts";

const NAME = "ragged-v3-fp8";
const STEPS = 10;
/** A choice that hangs on less is left to rounding. */
const MARGIN = 1e-4;
const GREEDY: SamplingParameters = { temperature: 0, topP: 1, topK: 0, minP: 0, seed: 0n };

interface Wish {
  readonly what: string;
  readonly sampling: SamplingParameters;
  /** Whether a token may be chosen in a step; all may where it is missing. */
  readonly allows?: (id: number, step: number) => boolean;
}

const BIAS = new Map(Array.from({ length: 60 }, (_, index) => [index * 5, ((index * 7) % 13) - 6]));
const EVERYTHING = { repetitionPenalty: 1.2, frequencyPenalty: 0.4, presencePenalty: 0.3, logitBias: BIAS };

const WISHES: readonly Wish[] = [
  { what: "a repetition penalty", sampling: { ...GREEDY, repetitionPenalty: 1.5 } },
  { what: "frequency and presence penalties", sampling: { ...GREEDY, frequencyPenalty: 1.5, presencePenalty: 0.5 } },
  { what: "negative penalties", sampling: { ...GREEDY, repetitionPenalty: 0.7, frequencyPenalty: -0.5 } },
  { what: "bias", sampling: { ...GREEDY, logitBias: BIAS } },
  // Not in every step: what a mask left behind would show.
  { what: "masks", sampling: GREEDY, allows: (id, step) => step % 3 === 2 || (id * 7 + step) % 5 === 1 },
  {
    what: "all of them, drawn",
    sampling: { temperature: 0.9, topP: 0.95, topK: 200, minP: 0.001, seed: 11n, ...EVERYTHING },
    allows: (id, step) => step % 2 === 0 || id % 3 !== 0,
  },
];

export function adjusting(models: Models): readonly GpuTest[] {
  const stage = (): Promise<LocalStage> => models.micro(NAME, "w8a32");
  const prompts = async (): Promise<readonly [readonly number[], readonly number[]]> => {
    const golden = await readGolden(`${NAME}-golden.safetensors`);
    return [golden.ints("case1.input_ids").slice(0, 24), golden.ints("case2.input_ids").slice(0, 31)];
  };
  const adjusted = WISHES.map((wish) => ({
    name: `tokens chosen with ${wish.what} are the reference's, beside a sequence that asks for nothing`,
    run: async () => {
      const on = await stage();
      const both = await prompts();
      const chosen = await decode(on, both, wish);
      const rows = await replay(on, both, chosen);
      const vocab = on.config.vocabSize;
      let close = 0;
      let changed = 0;
      for (const [sequence, { sampling, allows }] of [wish, { sampling: GREEDY, allows: undefined }].entries()) {
        const prompt = both[sequence] ?? [];
        const tokens = chosen.tokens[sequence] ?? [];
        for (const [step, token] of tokens.entries()) {
          const raw = rows[step]?.subarray(sequence * vocab, (sequence + 1) * vocab) ?? new Float32Array();
          const row: AdjustedRow = { logits: raw, adjustments: sampling, prompt, generated: tokens.slice(0, step) };
          const from = adjustReference(allows ? { ...row, allows: (id) => allows(id, step) } : row);
          const expected = sampleReference(Float32Array.from(from), sampling, prompt.length + step);
          if (expected.token !== sampleReference(raw, sampling, prompt.length + step).token) changed++;
          if (expected.margin < MARGIN) close++;
          else check(token === expected.token, `sequence ${sequence}, step ${step}: token ${token}, expected ${expected.token}`);
          checkLogprobs(
            chosen.logprobs[step]?.[sequence],
            logprobsReference(raw, token, TOP_LOGPROBS),
            `sequence ${sequence}, step ${step}`,
          );
        }
      }
      check(close < STEPS / 2, `${close} choices hang on rounding`);
      check(changed > 0, "nothing was chosen otherwise than without");
    },
  }));
  const history: GpuTest = {
    name: "a sequence that is opened anew with its history goes on as it would have",
    run: async () => {
      const on = await stage();
      const both = await prompts();
      const [prompt] = both;
      const sampling = { ...GREEDY, ...EVERYTHING };
      const { tokens } = await decode(on, both, { what: "all", sampling });
      const [whole = []] = tokens;
      const begun = whole.slice(0, 5);
      const rest = await withSequence(on, async (sequence) => {
        await on.setSampling(sequence, sampling, { promptIds: prompt, generatedIds: begun });
        const ids = [...prompt, ...begun];
        await prefill(on, sequence, ids.slice(0, -1));
        const out: number[] = [];
        for (let next: readonly number[] = ids.slice(-1); out.length < STEPS - begun.length;) {
          const { step } = await on.forward({ entries: [{ sequence, tokens: next }], output: "sample" });
          next = (await on.sampled(step, 1))[0] ?? [];
          out.push(...next);
        }
        return out;
      });
      check([...begun, ...rest].join() === whole.join(), `${[...begun, ...rest].join()}, expected ${whole.join()}`);
    },
  };
  const refusals: GpuTest = {
    name: "a stage refuses masks, histories and bias that mean nothing, and drafts for penalties, and nothing has changed",
    run: async () => {
      const on = await stage();
      const { vocabSize } = on.config;
      const words = Math.ceil(vocabSize / 32);
      const beyond = new Uint32Array(words);
      // Allows only what lies past the vocabulary.
      beyond[words - 1] = 0x80000000;
      await withSequence(on, async (sequence) => {
        await prefill(on, sequence, [3, 4, 5]);
        const masked = (masks: readonly Uint32Array<ArrayBuffer>[], output: "sample" | "lastLogits" = "sample"): Promise<unknown> =>
          on.forward({ entries: [{ sequence, tokens: [6], masks }], output });
        const followed = (more: Partial<BatchEntry>, output: "sample" | "none" = "sample"): Promise<unknown> =>
          on.forward({ entries: [{ sequence, tokens: [6], ...more }], output });
        const all = new Uint32Array(words).fill(0xffffffff);
        const set = (more: Partial<SamplingParameters>, generatedIds: readonly number[] = []): Promise<void> =>
          on.setSampling(sequence, { ...GREEDY, ...more }, { promptIds: [3], generatedIds });
        const asks: readonly (readonly [string, () => Promise<unknown>])[] = [
          ["no mask", () => masked([])],
          ["two masks", () => masked([all, all])],
          ["a short mask", () => masked([all.slice(1)])],
          ["a mask that allows nothing", () => masked([new Uint32Array(words)])],
          ["a mask that allows what is no token", () => masked([beyond])],
          ["a follower that is no token", () => followed({ followedBy: [vocabSize], quiet: true })],
          ["more followers than tokens", () => followed({ followedBy: [1, 2], quiet: true })],
          ["a follower of the last token, after which one is chosen", () => followed({ followedBy: [1] })],
          ["a follower where nothing is chosen", () => followed({ followedBy: [1], quiet: true }, "none")],
          ["a mask where nothing is chosen", () => masked([all], "lastLogits")],
          ["bias on what is no token", () => set({ logitBias: new Map([[vocabSize, 1]]) })],
          ["bias that is no number", () => set({ logitBias: new Map([[1, Number.NaN]]) })],
          ["a history of what is no token", () => set({ presencePenalty: 1 }, [-1])],
          ["a penalty that is no number", () => set({ presencePenalty: Number.POSITIVE_INFINITY })],
          ["a temperature that is none, with bias", () => set({ temperature: -1, logitBias: new Map([[1, 100]]) })],
          ["a sequence that is not open", () => on.setSampling(1 as SequenceSlot, GREEDY)],
        ];
        const next = async (): Promise<string> => {
          const { step } = await on.forward({ entries: [{ sequence, tokens: [6] }], output: "sample", logprobs: true });
          const [tokens, values] = [await on.sampled(step, 1), await on.logprobs(step, 1)];
          await on.truncate(sequence, 3);
          return JSON.stringify([tokens, values]);
        };
        const before = await next();
        for (const [what, ask] of asks) {
          const refused = await ask().then(
            () => false,
            () => true,
          );
          check(refused, `${what} was taken`);
          check((await next()) === before, `after ${what} another token is chosen`);
        }
        await set({ presencePenalty: 1 });
        const verify = on.forward({ entries: [{ sequence, tokens: [6], verify: 1 }], output: "sample" });
        const refused = await verify.then(
          () => "",
          (error: unknown) => String(error),
        );
        check(refused.includes("it has penalties"), `a draft for a sequence with penalties: '${refused}'`);
      });
    },
  };
  const followed: GpuTest = {
    name: "tokens that are said to follow have their log-probabilities, are not counted, and change nothing that is chosen",
    run: async () => {
      const on = await stage();
      const [prompt, other] = await prompts();
      const sampling = { ...GREEDY, ...EVERYTHING };
      const vocab = on.config.vocabSize;
      const rows = await withSequence(on, (sequence) => logitsOf(on, sequence, prompt));
      const run = (followers: boolean): Promise<{ chosen: string; logprobs: readonly ChosenLogprobs[] }> =>
        withPair(on, async ([a, b]) => {
          await on.setSampling(a, sampling, { promptIds: prompt, generatedIds: [] });
          const chunk = (begin: number, end: number, quiet: boolean): BatchEntry => {
            const followedBy = prompt.slice(begin + 1, end + 1);
            return { sequence: a, tokens: prompt.slice(begin, end), quiet, ...(followers && { followedBy }) };
          };
          const { step } = await on.forward({ entries: [chunk(0, 9, true)], output: "sample", logprobs: true });
          // Beside another sequence, and in front of it.
          await on.forward({ entries: [chunk(9, prompt.length, false), { sequence: b, tokens: other }], output: "sample", logprobs: true });
          for (let i = 0; i < 3; i++)
            await on.forward({
              entries: [a, b].map((sequence) => ({ sequence, tokens: "sampled" as const })),
              output: "sample",
              logprobs: true,
            });
          const [tokens, logprobs] = [await on.sampled(step, 5), await on.logprobs(step, 5)];
          const given = prompt.slice(1);
          if (followers)
            check(tokens.flat().slice(0, given.length).join() === given.join(), `${tokens.join(" ")}, expected ${given.join()}`);
          return {
            chosen: tokens
              .flat()
              .slice(followers ? given.length : 0)
              .join(),
            logprobs: logprobs.flat().slice(0, given.length),
          };
        });
      const [plain, told] = [await run(false), await run(true)];
      check(told.chosen === plain.chosen, `${told.chosen} were chosen, expected ${plain.chosen}`);
      for (const [index, token] of prompt.slice(1).entries())
        checkLogprobs(
          told.logprobs[index],
          logprobsReference(rows.subarray(index * vocab, (index + 1) * vocab), token, TOP_LOGPROBS),
          `token ${index + 1}`,
        );
    },
  };
  return [...adjusted, history, followed, refusals];
}

interface Decoded {
  /** Of each sequence. */
  readonly tokens: readonly (readonly number[])[];
  /** Of each step, of each sequence. */
  readonly logprobs: readonly (readonly ChosenLogprobs[])[];
}

/** Both prompts in one step, then a token each a step, none of which is seen before the last step is submitted. The first sequence is the one that wishes. */
async function decode(on: LocalStage, prompts: readonly [readonly number[], readonly number[]], wish: Wish): Promise<Decoded> {
  return withPair(on, async (pair) => {
    const [promptIds] = prompts;
    await on.setSampling(pair[0], wish.sampling, { promptIds, generatedIds: [] });
    let first = 0;
    for (let step = 0; step < STEPS; step++) {
      const masked = wish.allows && !Array.from({ length: on.config.vocabSize }, (_, id) => wish.allows?.(id, step)).every(Boolean);
      const entries = pair.map((sequence, index) => ({
        sequence,
        tokens: step === 0 ? (prompts[index] ?? []) : ("sampled" as const),
        ...(masked === true && index === 0 && { masks: [maskOf(on.config.vocabSize, (id) => wish.allows?.(id, step) ?? true)] }),
      }));
      const output = await on.forward({ entries, output: "sample", logprobs: true });
      if (step === 0) first = output.step;
    }
    const tokens = await on.sampled(first, STEPS);
    return { tokens: pair.map((_, index) => tokens.map((row) => row[index] ?? -1)), logprobs: await on.logprobs(first, STEPS) };
  });
}

/** The logits of the same steps: [steps][2, vocabSize]. Steps of the same shape give the same bits. */
async function replay(
  on: LocalStage,
  prompts: readonly [readonly number[], readonly number[]],
  { tokens }: Decoded,
): Promise<readonly Float32Array<ArrayBuffer>[]> {
  return withPair(on, async (pair) => {
    const rows: Float32Array<ArrayBuffer>[] = [];
    for (let step = 0; step < STEPS; step++) {
      const entries = pair.map((sequence, index) => ({
        sequence,
        tokens: step === 0 ? (prompts[index] ?? []) : [tokens[index]?.[step - 1] ?? -1],
      }));
      rows.push(logits(await on.forward({ entries, output: "lastLogits" })));
    }
    return rows;
  });
}

function withPair<T>(on: LocalStage, work: (pair: readonly [SequenceSlot, SequenceSlot]) => Promise<T>): Promise<T> {
  return withSequence(on, (a) => withSequence(on, (b) => work([a, b])));
}

function maskOf(vocab: number, allows: (id: number) => boolean): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(Math.ceil(vocab / 32));
  for (let id = 0; id < vocab; id++) if (allows(id)) words[id >> 5] = ((words[id >> 5] ?? 0) | (1 << (id & 31))) >>> 0;
  return words;
}

function checkLogprobs(
  actual: ChosenLogprobs | undefined,
  { chosen, top }: ReturnType<typeof logprobsReference>,
  what: string,
): asserts actual is ChosenLogprobs {
  check(actual !== undefined, `${what}: no log-probabilities`);
  check(Math.abs(actual.logprob - chosen) < 1e-4, `${what}: log-probability ${actual.logprob}, expected ${chosen}`);
  const ids = (list: readonly { readonly id: number }[]): string => list.map(({ id }) => id).join();
  const expected = top.map(({ token, logprob }) => ({ id: token, logprob }));
  check(ids(actual.top) === ids(expected), `${what}: likeliest ${ids(actual.top)}, expected ${ids(expected)}`);
  for (const [rank, { logprob }] of actual.top.entries())
    check(Math.abs(logprob - (expected[rank]?.logprob ?? 0)) < 1e-4, `${what}: log-probability of rank ${rank} is ${logprob}`);
}
