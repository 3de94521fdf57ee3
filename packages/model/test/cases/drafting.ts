/** Decoding with drafts of the MTP module that the model verifies: what is chosen is what it chooses without them, greedy or drawn. */
import {
  KV_BLOCK_SIZE,
  type LocalStage,
  ModelError,
  type MtpRecycling,
  NO_TOKEN,
  type SamplingParameters,
  type SequenceSlot,
} from "@shoal/model";
import { check, report } from "../support/compare.ts";
import { continuation, prefill, withSequence } from "../support/drive.ts";
import { readGolden } from "../support/golden.ts";
import type { GpuTest, Models } from "../support/models.ts";

const GREEDY: SamplingParameters = { temperature: 0, topP: 1, topK: 0, minP: 0, seed: 0n };

const GREEDY_CASES: readonly { readonly name: string; readonly drafts: number; readonly recycling?: MtpRecycling }[] = [
  { name: "capital", drafts: 1 },
  { name: "story", drafts: 2 },
  { name: "multiturn", drafts: 3 },
  { name: "story", drafts: 2, recycling: "pre-norm" },
  { name: "haystack600", drafts: 3 },
];

interface Verified {
  readonly tokens: readonly number[];
  readonly steps: number;
}

/** Decodes `count` tokens after a prompt; after the first, a step verifies `drafts` of them. */
async function decodeVerified(
  on: LocalStage,
  sequence: SequenceSlot,
  ids: readonly number[],
  count: number,
  drafts: number,
): Promise<Verified> {
  await prefill(on, sequence, ids.slice(0, -1), { next: ids.slice(1) });
  const tokens: number[] = [];
  let last = ids.at(-1) ?? 0;
  let verify = 0;
  let length = ids.length - 1;
  let steps = 0;
  let draftStep = 0;
  while (tokens.length < count) {
    const { step } = await on.forward({ entries: [{ sequence, tokens: [last], verify }], output: "sample" });
    const [chosen = []] = await on.sampled(step, 1);
    const guesses = verify > 0 ? (await on.drafted(draftStep, verify)).flat() : [];
    let right = 0;
    while (right < verify && guesses[right] === chosen[right]) right++;
    // Rejected rows too, now and then: their drafts are just not asked for.
    const next = steps % 2 === 0 ? chosen : chosen.slice(0, right + 1);
    const output = await on.draft({ entries: [{ sequence, tokens: next, draftAfter: right }], output: "sample", drafts });
    draftStep = output.step;
    tokens.push(...chosen.slice(0, right + 1));
    length += right + 1;
    await on.truncate(sequence, length);
    last = chosen[right] ?? 0;
    verify = drafts;
    steps++;
  }
  return { tokens: tokens.slice(0, count), steps };
}

/** Likewise, with steps that chain: nothing is read before all are submitted. @param between what else is done between drafts and the step that verifies them */
async function decodeChained(
  on: LocalStage,
  sequence: SequenceSlot,
  ids: readonly number[],
  count: number,
  drafts: number,
  between: () => Promise<void> = async () => undefined,
): Promise<Verified> {
  await prefill(on, sequence, ids.slice(0, -1), { next: ids.slice(1) });
  const submitted: number[] = [];
  let verify = 0;
  let length = ids.length - 1;
  for (; submitted.length * (1 + drafts) < count * 2; verify = drafts) {
    const tokens = submitted.length === 0 ? ids.slice(-1) : "sampled";
    const { step } = await on.forward({ entries: [{ sequence, tokens, verify }], output: "sample", chain: true });
    submitted.push(step);
    await on.draft({ entries: [{ sequence, tokens: "sampled", verify }], output: "sample", drafts, chain: true });
    length += 1 + verify;
    if (drafts > 1) await on.truncate(sequence, length);
    await between();
  }
  const tokens: number[] = [];
  let steps = 0;
  for (const step of submitted) {
    if (tokens.length < count) steps++;
    tokens.push(...(await on.sampled(step, 1)).flat().filter((id) => id !== NO_TOKEN));
  }
  return { tokens: tokens.slice(0, count), steps };
}

/** What is drafted after a prompt in two chunks: in steps that chain, or by the id that was chosen. */
async function draftsAfterPrompt(on: LocalStage, ids: readonly number[], chain: boolean): Promise<string> {
  const [drafts, middle] = [2, 5];
  return withSequence(on, async (sequence) => {
    const begin = { sequence, tokens: ids.slice(0, middle), quiet: true };
    await on.forward({ entries: [begin], output: "sample", chain });
    await on.draft({ entries: [{ ...begin, tokens: ids.slice(1, middle + 1) }], output: "sample", drafts, chain });
    const { step } = await on.forward({ entries: [{ sequence, tokens: ids.slice(middle) }], output: "sample", chain });
    const chosen = chain ? [] : (await on.sampled(step, 1)).flat();
    const made = await on.draft({
      entries: [{ sequence, tokens: [...ids.slice(middle + 1), ...chosen] }],
      output: "sample",
      drafts,
      chain,
    });
    return JSON.stringify(await on.drafted(made.step, drafts));
  });
}

export function drafting(models: Models): readonly GpuTest[] {
  const greedy = GREEDY_CASES.map(({ name, drafts, recycling }) => ({
    name: `greedy continuation of '${name}' with ${drafts} verified drafts a step is the reference's${recycling ? `, ${recycling} recycling` : ""}`,
    run: async () => {
      const golden = await readGolden(`tiny-${name}.safetensors`);
      const expected = golden.ints("greedy_w8a32");
      const on = recycling
        ? await models.stage("tiny", { mtp: true, contextTokens: 256, maxTokens: 64, mtpRecycling: recycling })
        : await models.tiny("w8a32");
      const { tokens, steps } = await withSequence(on, (sequence) =>
        decodeVerified(on, sequence, golden.ints("input_ids"), expected.length, drafts),
      );
      check(tokens.join() === expected.join(), `${tokens.join()}, expected ${expected.join()}`);
      check(steps < expected.length, `${steps} steps for ${expected.length} tokens: no draft was ever right`);
      report(`${(expected.length / steps).toFixed(2)} tokens a step`);
    },
  }));
  const chained: GpuTest = {
    name: "verified drafts whose outcome only the device knows give the reference's greedy continuations, within short contexts and long ones",
    run: async () => {
      const on = await models.tiny("w8a32");
      for (const [name, drafts] of [
        ["story", 3],
        ["haystack600", 1],
      ] as const) {
        const golden = await readGolden(`tiny-${name}.safetensors`);
        const expected = golden.ints("greedy_w8a32").slice(0, 24);
        const { tokens, steps } = await withSequence(on, (sequence) =>
          decodeChained(on, sequence, golden.ints("input_ids"), expected.length, drafts),
        );
        check(tokens.length > 12 && tokens.every((id, index) => id === expected[index]), `${tokens.join()}, expected ${expected.join()}`);
        report(`${name}: ${(tokens.length / steps).toFixed(2)} tokens a step`);
      }
      const prompt = (await readGolden("tiny-story.safetensors")).ints("input_ids");
      const [apart, together] = [await draftsAfterPrompt(on, prompt, false), await draftsAfterPrompt(on, prompt, true)];
      check(together === apart, `after prompts in steps that chain ${together} are drafted, in others ${apart}`);
      const refused = await withSequence(on, async (sequence) => {
        await on.forward({ entries: [{ sequence, tokens: [1] }], output: "sample" });
        return on.draft({ entries: [{ sequence, tokens: "sampled" }], output: "sample", chain: true }).catch((error: unknown) => error);
      });
      check(
        refused instanceof ModelError && refused.message.includes("not chained"),
        `a draft chained to a plain step: ${String(refused)}`,
      );
    },
  };
  const held: GpuTest = {
    name: "drafts that wait for the next step are what they would be without what others do meanwhile, and are not made for a sequence that ends before it",
    run: async () => {
      const on = await models.stage("tiny", { mtp: true, contextTokens: 256, maxTokens: 64, maxSequences: 3 });
      const golden = await readGolden("tiny-story.safetensors");
      const ids = golden.ints("input_ids");
      const decode = (between?: () => Promise<void>): Promise<Verified> =>
        withSequence(on, (sequence) => decodeChained(on, sequence, ids, 12, 2, between));
      const alone = await decode();
      const others: readonly (() => Promise<void>)[] = [
        // Takes the batch, and blocks that lie behind.
        () =>
          withSequence(on, async (other) => {
            await on.setSampling(other, { ...GREEDY, temperature: 2, seed: 5n });
            await on.forward({ entries: [{ sequence: other, tokens: ids.slice(0, 9) }], output: "sample" });
            await on.draft({ entries: [{ sequence: other, tokens: ids.slice(1, 10) }], output: "sample" });
          }),
        () =>
          withSequence(on, async (other) => {
            await on.forward({ entries: [{ sequence: other, tokens: ids.slice(0, 9) }], output: "none" });
            await on.close(await on.importKv(await on.exportKv(other)));
          }),
        // Their sequence ends, and takes nobody else's drafts with it.
        () =>
          withSequence(on, async (other) => {
            await on.forward({ entries: [{ sequence: other, tokens: ids.slice(0, 9) }], output: "sample", chain: true });
            await on.draft({ entries: [{ sequence: other, tokens: "sampled", draftFrom: 8 }], output: "sample", chain: true });
          }),
      ];
      for (const between of others) {
        const among = await decode(between);
        check(among.tokens.join() === alone.tokens.join(), `${among.tokens.join()}, expected ${alone.tokens.join()}`);
        check(among.steps === alone.steps, `${among.steps} steps beside others, expected ${alone.steps}: drafts differ`);
      }
    },
  };
  const drawn: GpuTest = {
    name: "tokens drawn with three verified drafts a step are those drawn without, for the same seed",
    run: async () => {
      const golden = await readGolden("tiny-story.safetensors");
      const ids = golden.ints("input_ids");
      const on = await models.tiny("w8a32");
      const count = 24;
      let steps = 0;
      for (const seed of [1n, 2n, 3n]) {
        // Bias leaves drafts as they are and changes what they are held to.
        const logitBias = new Map(seed === 3n ? ids.slice(0, 20).map((id, index) => [id, (index % 5) - 2]) : []);
        const sampling = { ...GREEDY, temperature: 1.5, topP: 0.98, seed, logitBias };
        const plain = await withSequence(on, async (sequence) => {
          await on.setSampling(sequence, sampling);
          await prefill(on, sequence, ids.slice(0, -1));
          return (await continuation(on, sequence, ids.at(-1) ?? 0, count)).tokens;
        });
        const verified = await withSequence(on, async (sequence) => {
          await on.setSampling(sequence, sampling);
          return decodeVerified(on, sequence, ids, count, 3);
        });
        check(verified.tokens.join() === plain.join(), `seed ${seed}: ${verified.tokens.join()}, without drafts ${plain.join()}`);
        steps += verified.steps;
      }
      report(`${((3 * count) / steps).toFixed(2)} tokens a step`);
    },
  };
  const gaps: GpuTest = {
    name: "drafts depend on nothing at positions that the module did not run over: not on what another sequence left there, nor on where the sequence began",
    run: async () => {
      const on = await models.tiny("w8a32");
      const cache = on.kv.layers.at(-1)?.buffer;
      if (!cache) throw new Error("The stage has no KV cache");
      const ids = (await readGolden("tiny-haystack600.safetensors")).ints("input_ids");
      /** Logits of drafts after each of 40 tokens, the first of which the module runs over, behind `before` others. */
      const draftLogits = (left: number, before: number): Promise<readonly number[]> =>
        withSequence(on, async (sequence) => {
          on.gpu.write(cache, 0, new Uint8Array(cache.size).fill(left));
          await prefill(on, sequence, ids.slice(0, before));
          const all: number[] = [];
          for (let at = before; at < before + 40; at++) {
            await on.forward({ entries: [{ sequence, tokens: ids.slice(at, at + 1) }], output: "none" });
            const { logits = [] } = await on.draft({ entries: [{ sequence, tokens: ids.slice(at + 1, at + 2) }], output: "lastLogits" });
            all.push(...logits);
          }
          return all;
        });
      // Bytes 0x3c are numbers in every format of a cache.
      for (const before of [KV_BLOCK_SIZE, 4 * KV_BLOCK_SIZE]) {
        const [clean, used] = [await draftLogits(0, before), await draftLogits(0x3c, before)];
        check(clean.length === 40 * on.config.vocabSize && clean.every(Number.isFinite), "The drafts' logits are not numbers");
        check(
          clean.every((value, index) => value === used[index]),
          `drafts after ${before} tokens without the module depend on what was in its cache there`,
        );
      }
    },
  };
  const reseen: GpuTest = {
    name: "where the module runs over all positions, drafts are the same whether or not it began anew between",
    run: async () => {
      const on = await models.tiny("w8a32");
      const ids = (await readGolden("tiny-haystack600.safetensors")).ints("input_ids").slice(0, 75);
      const drafts = (again: boolean): Promise<string> =>
        withSequence(on, async (sequence) => {
          if (again) {
            await prefill(on, sequence, ids);
            await on.forward({ entries: [{ sequence, tokens: [1] }], output: "none" });
            await on.draft({ entries: [{ sequence, tokens: [2] }], output: "none" });
            // All that the module ran over is cut off, and all before it.
            await on.truncate(sequence, 0);
          }
          await prefill(on, sequence, ids.slice(0, -1), { next: ids.slice(1) });
          const { step } = await on.forward({ entries: [{ sequence, tokens: ids.slice(-1) }], output: "sample" });
          const chosen = (await on.sampled(step, 1)).flat();
          const made = await on.draft({ entries: [{ sequence, tokens: chosen }], output: "sample", drafts: 3 });
          return JSON.stringify([chosen, await on.drafted(made.step, 3)]);
        });
      const [once, twice] = [await drafts(false), await drafts(true)];
      check(once === twice, `${twice}, expected ${once}`);
    },
  };
  const later: GpuTest = {
    name: "rows from the middle of a step are drafted after as if the step had begun there, whichever sequences had rows before them",
    run: async () => {
      const on = await models.micro("ragged-v3-fp8", "w8a32");
      const ids = Array.from({ length: 71 }, (_, index) => (index * 37) % on.config.vocabSize);
      // A block of positions, that the module sees neither way.
      const draftFrom = 64;
      const drafts = (together: boolean, chain: boolean): Promise<string> =>
        withSequence(on, (other) =>
          withSequence(on, async (sequence) => {
            if (!together) await on.forward({ entries: [{ sequence, tokens: ids.slice(0, draftFrom), quiet: true }], output: "sample" });
            const tokens = together ? ids : ids.slice(draftFrom);
            const { step } = await on.forward({
              entries: [
                { sequence: other, tokens: ids.slice(3, 6) },
                { sequence, tokens },
              ],
              output: "sample",
              chain,
            });
            const chosen = (await on.sampled(step, 1)).flat()[1] ?? 0;
            const known = [...ids.slice(draftFrom + 1), ...(chain ? [] : [chosen])];
            const from = together ? { draftFrom } : {};
            const made = await on.draft({ entries: [{ sequence, tokens: known, ...from }], output: "sample", drafts: 3, chain });
            return JSON.stringify([chosen, await on.drafted(made.step, 3)]);
          }),
        );
      const apart = await drafts(false, false);
      for (const chain of [false, true]) {
        const together = await drafts(true, chain);
        check(together === apart, `${together}, expected ${apart}`);
      }
    },
  };
  return [...greedy, chained, held, drawn, gaps, reseen, later];
}
