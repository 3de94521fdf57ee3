/**
 * What every Stage does, wherever it runs: one suite, run unchanged on a stage of this thread, in a worker, in a process, and behind any other channel. Results are held to those of
 * a LocalStage of the same kind of adapter, bit by bit, and its logits to the golden file.
 */
import { type LocalStage, type LocalStageOptions, ModelError, type SequenceSlot, type Stage, type StepOutput } from "@shoal/model";
import { type GpuTest, type Models, check, readGolden } from "@shoal/model/testing";

/** The model of the suite: FP8, groups of experts, an MTP module, dimensions that are no multiples of anything. */
export const CONTRACT_MODEL = "ragged-v3-fp8";
export const CONTRACT_OPTIONS = {
  mode: "w8a32",
  kvFormat: "f32",
  mtp: true,
  contextTokens: 256,
  maxTokens: 160,
  maxOutputs: 160,
  maxSequences: 2,
} as const satisfies LocalStageOptions;

export interface StageUnderTest {
  readonly stage: Stage;
  readonly close: () => Promise<void> | void;
}

export interface StageContract {
  /** In the names of the cases. */
  readonly name: string;
  readonly models: Models;
  /** Loads `CONTRACT_MODEL` with `CONTRACT_OPTIONS`; once for the suite. */
  readonly open: () => Promise<StageUnderTest>;
  /** Largest difference of a logit from the local stage's; 0 by default. */
  readonly tolerance?: number;
}

const GREEDY = { temperature: 0, topP: 1, topK: 0, minP: 0, seed: 0n };
const DRAWN = { temperature: 1.5, topP: 0.95, topK: 50, minP: 0.001, seed: 0x1234_5678_9abc_def0n };

export function stageContract({ name, models, open, tolerance = 0 }: StageContract): readonly GpuTest[] {
  let opened: Promise<StageUnderTest> | undefined;
  const run = (what: string, body: (stage: Stage, local: LocalStage, ids: readonly number[]) => Promise<void>): GpuTest => ({
    name: `${name}: ${what}`,
    run: async () => {
      opened ??= open();
      const { stage } = await opened;
      const local = await models.stage(CONTRACT_MODEL, CONTRACT_OPTIONS);
      const ids = (await readGolden(`${CONTRACT_MODEL}-golden.safetensors`)).ints("case2.input_ids");
      const { freeKvBlocks } = await stage.describe();
      await body(stage, local, ids);
      const after = await stage.describe();
      check(
        after.freeKvBlocks === freeKvBlocks,
        `${after.freeKvBlocks} KV blocks are free in the end, ${freeKvBlocks} were in the beginning`,
      );
    },
  });

  return [
    run("describes itself as a local stage does", async (stage, local) => {
      const { memory: _, chainsDrafts, ...described } = await stage.describe();
      const { memory: __, chainsDrafts: couldChain, ...expected } = await local.describe();
      check(couldChain || !chainsDrafts, "it chains drafts, which a local stage does not");
      check(JSON.stringify(described) === JSON.stringify(expected), `${JSON.stringify(described)}, expected ${JSON.stringify(expected)}`);
    }),
    run("gives the logits, hidden states and routing of a local stage", async (stage, local, ids) => {
      const step = (on: Stage): Promise<StepOutput> =>
        withSequence(on, (sequence) =>
          on.forward({
            entries: [{ sequence, tokens: ids.slice(0, 40) }],
            output: "allLogits",
            capture: { hidden: true, routing: true },
          }),
        );
      const [actual, expected] = [await step(stage), await step(local)];
      same("logits", actual.logits, expected.logits, tolerance);
      check(actual.layerHidden?.length === expected.layerHidden?.length, `${actual.layerHidden?.length} layers`);
      for (const [layer, rows] of (expected.layerHidden ?? []).entries())
        same(`layer ${layer}`, actual.layerHidden?.[layer], rows, tolerance);
      check(actual.routing?.length === expected.routing?.length, `${actual.routing?.length} MoE layers`);
      for (const [index, { layer, indices, weights }] of (expected.routing ?? []).entries()) {
        check(actual.routing?.[index]?.layer === layer, `layer ${actual.routing?.[index]?.layer}, expected ${layer}`);
        check(actual.routing[index].indices.join() === indices.join(), `other experts in layer ${layer}`);
        same(`weights of layer ${layer}`, actual.routing[index].weights, weights, tolerance);
      }
    }),
    run("gives logits within 2e-3 of the golden file's", async (stage, _, ids) => {
      const golden = await readGolden(`${CONTRACT_MODEL}-golden.safetensors`);
      const { logits } = await withSequence(stage, (sequence) =>
        stage.forward({ entries: [{ sequence, tokens: ids }], output: "allLogits" }),
      );
      same("logits", logits, golden.floats("case2.logits"), 2e-3);
    }),
    run("decodes ahead of its reader, and two sequences at once, one of them drawn by a seed", async (stage, local, ids) => {
      const decode = async (on: Stage): Promise<string> => {
        const sequences = [await on.open(), await on.open()] as const;
        await on.setSampling(sequences[1], DRAWN);
        const first = await on.forward({
          entries: sequences.map((sequence, index) => ({ sequence, tokens: ids.slice(index * 8, index * 8 + 8) })),
          output: "sample",
        });
        const count = 8;
        for (let i = 1; i < count; i++)
          await on.forward({ entries: sequences.map((sequence) => ({ sequence, tokens: "sampled" })), output: "sample" });
        const tokens = await on.sampled(first.step, count);
        for (const sequence of sequences) await on.close(sequence);
        return JSON.stringify(tokens);
      };
      const [actual, expected] = [await decode(stage), await decode(local)];
      check(actual === expected, `tokens ${actual}, expected ${expected}`);
    }),
    run("chooses within masks, with a bias and penalties, and tells log-probabilities", async (stage, local, ids) => {
      const choose = async (on: Stage): Promise<string> =>
        withSequence(on, async (sequence) => {
          const { vocabSize } = await on.describe();
          const mask = new Uint32Array(Math.ceil(vocabSize / 32)).fill(0x5555_5555);
          const history = { promptIds: ids.slice(0, 9), generatedIds: [] };
          await on.setSampling(
            sequence,
            { ...GREEDY, repetitionPenalty: 1.2, frequencyPenalty: 0.5, logitBias: new Map([[4, 30]]) },
            history,
          );
          const step = { output: "sample", logprobs: true } as const;
          const followedBy = ids.slice(1, 9);
          const first = await on.forward({ ...step, entries: [{ sequence, tokens: ids.slice(0, 9), followedBy }] });
          await on.forward({ ...step, entries: [{ sequence, tokens: "sampled", masks: [mask] }] });
          const logprobs = (await on.logprobs(first.step, 2)).flat();
          // Of the prompt's tokens, which are known to follow, and of the two that are chosen.
          check(logprobs.length === followedBy.length + 2, `log-probabilities of ${logprobs.length} tokens`);
          check(
            logprobs.every(({ top }) => top.length > 0),
            "a token without alternatives",
          );
          const rounded = logprobs.map(({ logprob, top }) => (tolerance === 0 ? [logprob, top] : [logprob.toFixed(2), top.length]));
          return JSON.stringify([await on.sampled(first.step, 2), rounded]);
        });
      const [actual, expected] = [await choose(stage), await choose(local)];
      check(actual === expected, `${actual}, expected ${expected}`);
    }),
    run("gives the last logits of a prompt in chunks, and of one cut back", async (stage, local, ids) => {
      const steps = async (on: Stage): Promise<Float32Array> =>
        withSequence(on, async (sequence) => {
          await on.forward({ entries: [{ sequence, tokens: ids.slice(0, 50) }], output: "none" });
          await on.forward({ entries: [{ sequence, tokens: ids.slice(50, 70) }], output: "none" });
          await on.truncate(sequence, 45);
          const { logits } = await on.forward({ entries: [{ sequence, tokens: ids.slice(45, 47) }], output: "lastLogits" });
          return logits ?? new Float32Array();
        });
      same("logits", await steps(stage), await steps(local), tolerance);
    }),
    run("drafts, and verifies its drafts", async (stage, local, ids) => {
      const drafted = async (on: Stage): Promise<string> =>
        withSequence(on, async (sequence) => {
          const tokens = ids.slice(0, 20);
          const prefill = await on.forward({ entries: [{ sequence, tokens }], output: "sample" });
          const [[first = -1] = []] = await on.sampled(prefill.step, 1);
          const draft = await on.draft({ entries: [{ sequence, tokens: [...tokens.slice(1), first] }], output: "sample" });
          const drafts = await on.drafted(draft.step, 1);
          const verified = await on.forward({ entries: [{ sequence, tokens: [first], verify: 1 }], output: "sample" });
          const chosen = await on.sampled(verified.step, 1);
          const [[next = -1] = []] = chosen;
          const again = await on.draft({ entries: [{ sequence, tokens: [next, next], draftAfter: 0 }], output: "sample" });
          await on.truncate(sequence, 21);
          return JSON.stringify([drafts, chosen, await on.drafted(again.step, 1)]);
        });
      const [actual, expected] = [await drafted(stage), await drafted(local)];
      check(actual === expected, `${actual}, expected ${expected}`);
    }),
    run("verifies drafts in steps that chain, or says that it does not", async (stage, local, ids) => {
      const chained = (on: Stage): Promise<string> =>
        withSequence(on, async (sequence) => {
          await on.forward({ entries: [{ sequence, tokens: ids.slice(0, 20) }], output: "none" });
          const steps: number[] = [];
          for (const [verify, length] of [
            [0, 21],
            [2, 24],
            [2, 27],
          ] as const) {
            const tokens = verify === 0 ? ids.slice(20, 21) : "sampled";
            steps.push((await on.forward({ entries: [{ sequence, tokens, verify }], output: "sample", chain: true })).step);
            await on.draft({ entries: [{ sequence, tokens: "sampled", verify }], output: "sample", drafts: 2, chain: true });
            await on.truncate(sequence, length);
          }
          return JSON.stringify(await Promise.all(steps.map((step) => on.sampled(step, 1))));
        });
      if (!(await stage.describe()).chainsDrafts) {
        const refused = await chained(stage).catch((error: unknown) => error);
        check(refused instanceof ModelError && refused.code === "unsupported", `steps that chain: ${String(refused)}`);
        return;
      }
      const [actual, expected] = [await chained(stage), await chained(local)];
      check(actual === expected, `${actual}, expected ${expected}`);
    }),
    run("shares KV blocks between sequences, and frees them when the last holder lets go", async (stage, local, ids) => {
      const shared = async (on: Stage): Promise<Float32Array> => {
        const first = await on.open();
        await on.forward({ entries: [{ sequence: first, tokens: ids.slice(0, 70) }], output: "none" });
        const blocks = await on.retain(first, 0, 2);
        const again = await on.retain(first, 1, 1);
        check(blocks.length === 2 && again.join() === blocks.slice(1).join(), `blocks ${blocks.join()}, then ${again.join()}`);
        await on.close(first);
        const second = await on.open(blocks);
        await on.release(again);
        await on.release(blocks);
        const { logits } = await on.forward({ entries: [{ sequence: second, tokens: ids.slice(64, 70) }], output: "lastLogits" });
        await on.close(second);
        await refuses(on.open(blocks), "ModelError", "bad-batch");
        await refuses(on.release(blocks), "ModelError", "bad-batch");
        return logits ?? new Float32Array();
      };
      same("logits", await shared(stage), await shared(local), tolerance);
    }),
    run("moves a sequence's KV rows", async (stage, local, ids) => {
      const sequence = await local.open();
      await local.forward({ entries: [{ sequence, tokens: ids.slice(0, 33) }], output: "none" });
      const whole = await local.exportKv(sequence);
      // In two pieces, across a block's end, one there and one back again.
      const [start, rest] = [
        await local.exportKv(sequence, { first: 0, count: 20 }),
        await local.exportKv(sequence, { first: 20, count: 13 }),
      ];
      const moved = await stage.importKv(start);
      await stage.importKv(rest, moved);
      for (const [layer, rows] of (await stage.exportKv(moved)).layers.entries())
        same(`bytes of layer ${layer}`, Float32Array.from(rows), Float32Array.from(whole.layers[layer] ?? []), 0);
      const back = await local.importKv(await stage.exportKv(moved, { first: 0, count: 5 }));
      await local.importKv(await stage.exportKv(moved, { first: 5, count: 28 }), back);
      await refuses(stage.exportKv(moved, { first: 30, count: 4 }), "ModelError", "bad-batch");
      const next = (on: Stage, slot: SequenceSlot): Promise<StepOutput> =>
        on.forward({ entries: [{ sequence: slot, tokens: ids.slice(33, 36) }], output: "lastLogits" });
      const [expected, actual, returned] = [await next(local, sequence), await next(stage, moved), await next(local, back)];
      await stage.close(moved);
      for (const slot of [sequence, back]) await local.close(slot);
      same("logits of the moved sequence", actual.logits, expected.logits, tolerance);
      same("logits of the one that came back", returned.logits, expected.logits, tolerance);
    }),
    run("refuses what does not fit by name and code, and goes on", async (stage, _, ids) => {
      const sequence = await stage.open();
      const step = (tokens: readonly number[], slot: number = sequence): Promise<StepOutput> =>
        stage.forward({ entries: [{ sequence: slot as SequenceSlot, tokens }], output: "none" });
      await refuses(step([0], 7), "ModelError", "unknown-sequence");
      await refuses(step([]), "ModelError", "bad-batch");
      await refuses(step([1e6]), "ModelError", "bad-batch");
      await refuses(step(Array.from({ length: 161 }, () => 1)), "ModelError", "bad-batch");
      const many = (count: number): readonly number[] => Array.from({ length: count }, () => 1);
      await step(many(160));
      await refuses(step(many(97)), "ModelError", "context-exceeded");
      await refuses(stage.truncate(sequence, 161), "ModelError", "bad-batch");
      await refuses(stage.close(9 as SequenceSlot), "ModelError", "unknown-sequence");
      const other = await stage.open();
      await refuses(stage.open(), "ModelError", "too-many-sequences");
      await refuses(stage.setSampling(other, { ...GREEDY, temperature: -1 }), "RangeError", undefined);
      await refuses(stage.sampled(1_000_000, 1), "ModelError", "bad-batch");
      await stage.close(other);
      await step(ids.slice(0, 5));
      await stage.close(sequence);
    }),
    {
      name: `${name}: ends`,
      run: async () => {
        opened ??= open();
        const { stage, close } = await opened;
        await stage.destroy();
        await close();
      },
    },
  ];
}

async function withSequence<T>(stage: Stage, work: (sequence: SequenceSlot) => Promise<T>): Promise<T> {
  const sequence = await stage.open();
  try {
    return await work(sequence);
  } finally {
    await stage.close(sequence);
  }
}

async function refuses(call: Promise<unknown>, name: string, code: string | undefined): Promise<void> {
  const error: unknown = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  check(error instanceof Error, `it was taken, expected ${name} ${code ?? ""}`);
  const found = "code" in error ? error.code : undefined;
  check(
    error.name === name && found === code,
    `it was refused with ${error.name} ${String(found)} (${error.message}), expected ${name} ${code ?? ""}`,
  );
}

export function same(what: string, actual: Float32Array | undefined, expected: Float32Array | undefined, tolerance: number): number {
  check(
    actual !== undefined && expected !== undefined && actual.length === expected.length,
    `${what}: ${actual?.length} values, expected ${expected?.length}`,
  );
  let worst = 0;
  for (const [index, value] of expected.entries()) worst = Math.max(worst, Math.abs(value - (actual[index] ?? Number.NaN)));
  check(worst <= tolerance, `${what}: off by ${worst}, expected at most ${tolerance}`);
  return worst;
}
