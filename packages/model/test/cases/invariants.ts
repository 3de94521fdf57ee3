/**
 * What a result must not depend on: how a prompt is cut into steps, what the caches held before, who else is in the batch. The random models tell more than the trained
 * one, which is sure of its words.
 */
import type { LocalStage, SequenceSlot } from "@shoal/model";
import { argmaxRows, check, checkRows, maxError, report, rowErrors } from "../support/compare.ts";
import { concat, continuation, logits, logitsOf, prefill, withSequence } from "../support/drive.ts";
import { readGolden } from "../support/golden.ts";
import type { CheckpointName, GpuTest, Models } from "../support/models.ts";

/** Other kernels sum in another order: f32 noise of some 2e-5. */
const TOLERANCE = 1e-4;
/** Rounding latents to f16 is a relative 5e-4. */
const F16_KV_TOLERANCE = 0.1;

export function invariants(models: Models): readonly GpuTest[] {
  const prompt = async (name: CheckpointName, item: string): Promise<readonly number[]> =>
    (await readGolden(`${name}-golden.safetensors`)).ints(`${item}.input_ids`);
  const whole = new Map<CheckpointName, Promise<Float32Array<ArrayBuffer>>>();
  /** Logits of all 150 tokens of case 2, computed in one step. */
  const wholeLogits = (name: CheckpointName): Promise<Float32Array<ArrayBuffer>> => {
    const compute = async (): Promise<Float32Array<ArrayBuffer>> => {
      const on = await models.micro(name, "w8a32");
      return withSequence(on, async (sequence) => logitsOf(on, sequence, await prompt(name, "case2")));
    };
    const made = whole.get(name) ?? compute();
    whole.set(name, made);
    return made;
  };

  const chunks = (["ragged-v3-fp8", "micro-v2-bf16"] as const).flatMap((name) =>
    [1, 3, 7, 64].map((chunk) => ({
      name: `${name}: a prefill in chunks of ${chunk} gives the logits of one in a single step, within ${TOLERANCE}`,
      run: async () => {
        const on = await models.micro(name, "w8a32");
        const ids = await prompt(name, "case2");
        const cut = await withSequence(on, (sequence) => logitsOf(on, sequence, ids, chunk));
        const worst = checkRows("logits", rowErrors(cut, await wholeLogits(name), on.config.vocabSize), TOLERANCE);
        report(`largest difference ${worst.toExponential(1)}`);
      },
    })),
  );
  const decoding: GpuTest = {
    name: "decoding after a prefill gives what a prefill of the longer prompt gives",
    run: async () => {
      const on = await models.micro("ragged-v3-fp8", "w8a32");
      const ids = (await prompt("ragged-v3-fp8", "case2")).slice(0, 37);
      const [decoded, chosen] = await withSequence(on, async (sequence) => {
        await prefill(on, sequence, ids.slice(0, -1));
        const { tokens } = await continuation(on, sequence, ids.at(-1) ?? 0, 20);
        return [await lastLogits(on, sequence, tokens.at(-1) ?? 0), tokens] as const;
      });
      const longer = await withSequence(on, (sequence) => logitsOf(on, sequence, [...ids, ...chosen]));
      const vocab = on.config.vocabSize;
      const error = maxError(decoded, longer.slice(-vocab));
      check(error <= TOLERANCE, `the logits differ by ${error}`);
      const again = argmaxRows(longer, vocab).slice(ids.length - 1, -1);
      check(again.join() === chosen.join(), `decoding chose ${chosen.join()}, the prefill ${again.join()}`);
      report(`largest difference ${error.toExponential(1)}`);
    },
  };
  const truncating: GpuTest = {
    name: "a sequence that was cut back and went on otherwise is as a fresh one",
    run: async () => {
      const on = await models.micro("ragged-v3-fp8", "w8a32");
      const ids = await prompt("ragged-v3-fp8", "case2");
      const other = (await prompt("ragged-v3-fp8", "case1")).slice(1);
      // Inside a block of the KV cache, at an edge, next to it, and nothing left.
      for (const length of [37, 64, 63, 0]) {
        const cut = await withSequence(on, async (sequence) => {
          await prefill(on, sequence, ids);
          await on.truncate(sequence, length);
          return logitsOf(on, sequence, other);
        });
        const fresh = await withSequence(on, async (sequence) => {
          if (length > 0) await prefill(on, sequence, ids.slice(0, length));
          return logitsOf(on, sequence, other);
        });
        checkRows(`cut to ${length}`, rowErrors(cut, fresh, on.config.vocabSize), TOLERANCE);
      }
    },
  };
  const together: GpuTest = {
    name: "two sequences in a batch give what each gives alone, in prefill and in decoding",
    run: async () => {
      const on = await models.micro("ragged-v3-fp8", "w8a32");
      const first = await prompt("ragged-v3-fp8", "case1");
      const second = (await prompt("ragged-v3-fp8", "case2")).slice(40, 91);
      const alone = [await textAndLogits(on, first), await textAndLogits(on, second)];
      await withSequence(on, (a) =>
        withSequence(on, async (b) => {
          const entries = [
            { sequence: a, tokens: first },
            { sequence: b, tokens: second },
          ];
          const rows = logits(await on.forward({ entries, output: "allLogits" }));
          const expected = concat(alone.map((item) => item.logits));
          const worst = checkRows("logits", rowErrors(rows, expected, on.config.vocabSize), TOLERANCE);
          await on.truncate(a, first.length - 1);
          await on.truncate(b, second.length - 1);
          const last = entries.map(({ sequence, tokens }) => ({ sequence, tokens: tokens.slice(-1) }));
          const { step } = await on.forward({ entries: last, output: "sample" });
          const sampled = entries.map(({ sequence }) => ({ sequence, tokens: "sampled" as const }));
          for (let i = 1; i < DECODED; i++) await on.forward({ entries: sampled, output: "sample" });
          const tokens = await on.sampled(step, DECODED);
          for (const [index, item] of alone.entries()) {
            const got = tokens.map((row) => row[index]).join();
            check(got === item.tokens.join(), `sequence ${index} went on with ${got}, alone with ${item.tokens.join()}`);
          }
          report(`largest difference ${worst.toExponential(1)}`);
        }),
      );
    },
  };
  const halfPrecision: GpuTest = {
    name: `a KV cache in f16 changes logits by less than ${F16_KV_TOLERANCE}, and takes half the bytes`,
    run: async () => {
      const name = "ragged-v3-fp8";
      const [single, half] = [
        await models.micro(name, "w8a32"),
        await models.stage(name, { kvFormat: "f16", contextTokens: 256, maxTokens: 160, maxOutputs: 160 }),
      ];
      const rows = await withSequence(half, async (sequence) => logitsOf(half, sequence, await prompt(name, "case2")));
      const expected = await wholeLogits(name);
      const vocab = half.config.vocabSize;
      const worst = checkRows("logits", rowErrors(rows, expected, vocab), F16_KV_TOLERANCE);
      const [a, b] = [argmaxRows(rows, vocab), argmaxRows(expected, vocab)];
      report(
        `largest difference ${worst.toExponential(1)}, another likeliest token in ${a.filter((id, row) => id !== b[row]).length} of ${a.length} rows`,
      );
      const bytes = ({ kv }: LocalStage): number => kv.layers[0]?.buffer.size ?? 0;
      check(bytes(half) * 2 === bytes(single), `${bytes(half)} bytes a layer, in f32 ${bytes(single)}`);
    },
  };
  const blocks: GpuTest = {
    name: "KV blocks go back when sequences are cut or closed",
    run: async () => {
      const on = await models.micro("ragged-v3-fp8", "w8a32");
      const ids = await prompt("ragged-v3-fp8", "case2");
      const free = async (): Promise<number> => (await on.describe()).freeKvBlocks;
      const all = await free();
      const { kvBlockSize } = await on.describe();
      await withSequence(on, async (sequence) => {
        await prefill(on, sequence, ids);
        check((await free()) === all - Math.ceil(ids.length / kvBlockSize), `${await free()} of ${all} blocks are free after the prefill`);
        await on.truncate(sequence, kvBlockSize + 1);
        check((await free()) === all - 2, `${await free()} of ${all} blocks are free after a cut to ${kvBlockSize + 1}`);
      });
      check((await free()) === all, `${await free()} of ${all} blocks are free after closing`);
    },
  };
  const calls: GpuTest = {
    name: "steps called without waiting each give their own results",
    run: async () => {
      const on = await models.micro("ragged-v3-fp8", "w8a32");
      const ids = (await prompt("ragged-v3-fp8", "case1")).slice(0, 6);
      const capture = { hidden: true, routing: true };
      const run = (sequence: SequenceSlot, token: number) =>
        on.forward({ entries: [{ sequence, tokens: [token] }], output: "lastLogits", capture });
      const waited = await withSequence(on, async (sequence) => {
        const steps: Awaited<ReturnType<typeof run>>[] = [];
        for (const id of ids) steps.push(await run(sequence, id));
        return steps;
      });
      const rushed = await withSequence(on, (sequence) => Promise.all(ids.map((id) => run(sequence, id))));
      for (const [index, step] of waited.entries()) {
        const other = rushed[index];
        check(other !== undefined && maxError(logits(other), logits(step)) === 0, `the logits of step ${index} are another step's`);
        const hidden = concat(step.layerHidden ?? []);
        check(maxError(concat(other.layerHidden ?? []), hidden) === 0, `the hidden states of step ${index} are another step's`);
        const experts = (of: typeof step): string => (of.routing ?? []).map(({ indices }) => indices.join()).join(" ");
        check(experts(other) === experts(step), `the experts of step ${index} are another step's`);
      }
    },
  };
  return [...chunks, decoding, truncating, together, halfPrecision, blocks, calls];
}

/** Tokens decoded where two sequences are compared. */
const DECODED = 12;

async function textAndLogits(
  on: LocalStage,
  ids: readonly number[],
): Promise<{ readonly logits: Float32Array<ArrayBuffer>; readonly tokens: readonly number[] }> {
  return withSequence(on, async (sequence) => {
    const rows = await logitsOf(on, sequence, ids);
    await on.truncate(sequence, ids.length - 1);
    const { tokens } = await continuation(on, sequence, ids.at(-1) ?? 0, DECODED);
    return { logits: rows, tokens };
  });
}

async function lastLogits(on: LocalStage, sequence: SequenceSlot, token: number): Promise<Float32Array<ArrayBuffer>> {
  return logits(await on.forward({ entries: [{ sequence, tokens: [token] }], output: "lastLogits" }));
}
