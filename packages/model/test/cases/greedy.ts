/**
 * Greedy continuations of all six prompts of the trained model, in both modes, token for token; beside them the MTP module's drafts, and for the long prompts the
 * logits of their last positions. Chosen tokens stay on the device and are read in batches.
 */
import process from "node:process";
import type { LocalStage, NumericMode } from "@shoal/model";
import { argmaxRows, check, checkRows, report, rowErrors } from "../support/compare.ts";
import { continuation, logits, prefill, withSequence } from "../support/drive.ts";
import { type Golden, readGolden } from "../support/golden.ts";
import type { GpuTest, Models } from "../support/models.ts";

const CASES = ["capital", "story", "sum_sys", "multiturn", "haystack600", "haystack1900"];
const LONG_CASES = ["haystack600", "haystack1900"];
/** Exact sums of 1,900 tokens take a software adapter minutes: the other mode has this case always, this one with SHOAL_LONG=1. */
const MODE_CASES: Readonly<Record<NumericMode, readonly string[]>> = {
  w8a32: CASES,
  w8a8: process.env["SHOAL_LONG"] === "1" ? CASES : CASES.filter((name) => name !== "haystack1900"),
};
const QUIET = 1e-3;
const TOLERANCE: Readonly<Record<NumericMode, number>> = { w8a32: 2e-3, w8a8: 1e-2 };

export function greedy(models: Models): readonly GpuTest[] {
  const golden = (name: string): Promise<Golden> => readGolden(`tiny-${name}.safetensors`);

  const exact = (["w8a32", "w8a8"] as const).flatMap((mode) =>
    MODE_CASES[mode].map((name) => ({
      name: `${mode} greedy continuation of '${name}' is the reference's${mode === "w8a32" ? ", and so are the MTP module's drafts" : ""}`,
      run: async () => {
        const reference = await golden(name);
        const ids = reference.ints("input_ids");
        const expected = reference.ints(`greedy_${mode}`);
        const drafts = mode === "w8a32";
        const on = await models.tiny(mode);
        await withSequence(on, async (sequence) => {
          const last = ids.length - 1;
          const next = drafts ? { next: ids.slice(1) } : {};
          if (LONG_CASES.includes(name)) {
            const rows = reference.ints("positions").length;
            await prefill(on, sequence, ids.slice(0, -rows), next);
            await compareLastLogits(on, sequence, reference, mode);
            if (drafts) await on.draft({ entries: [{ sequence, tokens: ids.slice(1 - rows) }], output: "none" });
            await on.truncate(sequence, last);
          } else await prefill(on, sequence, ids.slice(0, last), next);
          const got = await continuation(on, sequence, ids[last] ?? 0, expected.length, drafts);
          check(got.tokens.join() === expected.join(), `tokens ${got.tokens.join()}, expected ${expected.join()}`);
          if (!drafts) return;
          const guesses = reference.ints("mtp_draft_greedy");
          check(got.drafts.join() === guesses.join(), `drafts ${got.drafts.join()}, expected ${guesses.join()}`);
        });
      },
    })),
  );
  const halfPrecision = ["capital", "multiturn"].map((name) => ({
    name: `w8a32 greedy continuation of '${name}' is the reference's with an f16 KV cache too`,
    run: async () => {
      const reference = await golden(name);
      const ids = reference.ints("input_ids");
      const expected = reference.ints("greedy_w8a32");
      const on = await models.stage("tiny", { kvFormat: "f16", contextTokens: 256, maxTokens: 96 });
      await withSequence(on, async (sequence) => {
        await prefill(on, sequence, ids.slice(0, -1));
        const { tokens } = await continuation(on, sequence, ids.at(-1) ?? 0, expected.length);
        check(tokens.join() === expected.join(), `tokens ${tokens.join()}, expected ${expected.join()}`);
      });
    },
  }));
  return [...exact, ...halfPrecision];
}

/** The fixtures have the logits of the last eight positions of long prompts. The cache holds what is before them. */
async function compareLastLogits(
  on: LocalStage,
  sequence: Awaited<ReturnType<LocalStage["open"]>>,
  reference: Golden,
  mode: NumericMode,
): Promise<void> {
  const positions = reference.ints("positions");
  const tokens = reference.ints("input_ids").slice(-positions.length);
  const actual = logits(await on.forward({ entries: [{ sequence, tokens }], output: "allLogits" }));
  const expected = reference.floats(`logits_${mode}`);
  const noise = reference.floats(`noise_${mode}`);
  const vocab = on.config.vocabSize;
  const errors = rowErrors(actual, expected, vocab);
  const loud = (row: number): boolean => (noise[row] ?? 0) >= QUIET;
  const worst = checkRows(`${mode} logits`, errors, TOLERANCE[mode], loud);
  const quiet = errors.filter((_, row) => !loud(row)).length;
  report(`largest error ${worst.toExponential(1)} in ${quiet} of ${errors.length} rows, ${Math.max(...errors).toExponential(1)} in all`);
  const want = argmaxRows(expected, vocab);
  const other = argmaxRows(actual, vocab).flatMap((id, row) => (id === want[row] || (mode === "w8a8" && loud(row)) ? [] : [row]));
  check(other.length === 0, `the likeliest token of rows ${other.join(", ")} is another`);
}
