/**
 * Perplexity of prose that training did not see, against an independent implementation: windows of 512 tokens, each alone after a BOS.
 */
import { readFileSync } from "node:fs";
import process from "node:process";
import type { LocalStage, NumericMode } from "@shoal/model";
import { loadTokenizer } from "@shoal/tokenizer";
import { check, report } from "../support/compare.ts";
import { logitsOf, withSequence } from "../support/drive.ts";
import { FIXTURES } from "../support/golden.ts";
import type { GpuTest, Models } from "../support/models.ts";

const WINDOW = 512;
const BOS = 0;
/** Exact sums take a software adapter ten seconds a window: SHOAL_LONG=1 takes all ten of w8a8. */
const WINDOWS: Readonly<Record<NumericMode, number>> = { w8a32: 10, w8a8: process.env["SHOAL_LONG"] === "1" ? 10 : 2 };
/**
 * Of a window's sum. w8a32: f32 noise of 3e-5 a logit, at random over 512 tokens. w8a8: values near a rounding step fall on either side between f32 and f64 too, and
 * move single logits by up to 5, up or down, so only the sum says something.
 */
const TOLERANCE: Readonly<Record<NumericMode, number>> = { w8a32: 1e-5, w8a8: 5e-3 };

interface Expected {
  readonly tokens: number;
  readonly window_nll_sums: readonly number[];
}

export function perplexity(models: Models): readonly GpuTest[] {
  const expected = JSON.parse(readFileSync(`${FIXTURES}perplexity.json`, "utf8")) as Record<NumericMode, Expected>;
  const cases = (["w8a32", "w8a8"] as const).map((mode) => ({
    name: `${mode} likelihood of held-out prose is the reference's within ${TOLERANCE[mode]} in each of ${WINDOWS[mode]} windows`,
    run: async () => {
      const { tokenizerJson, tokenizerConfigJson } = await models.checkpoint("tiny");
      const tokenizer = loadTokenizer({
        tokenizerJson: tokenizerJson ?? "",
        ...(tokenizerConfigJson !== null && { tokenizerConfigJson }),
      });
      const ids = tokenizer.encode(readFileSync(`${FIXTURES}heldout-prose.txt`, "utf8"));
      check(ids.length === expected[mode].tokens, `the prose has ${ids.length} tokens, expected ${expected[mode].tokens}`);
      const on = await models.tiny(mode);
      const errors: number[] = [];
      for (const [window, want] of expected[mode].window_nll_sums.slice(0, WINDOWS[mode]).entries()) {
        const sum = await windowNll(on, ids.slice(window * WINDOW, (window + 1) * WINDOW));
        errors.push(Math.abs(sum - want) / want);
      }
      report(`relative errors ${errors.map((error) => error.toExponential(1)).join(", ")}`);
      const bad = errors.findIndex((error) => !(error <= TOLERANCE[mode]));
      check(bad < 0, `window ${bad} is off by ${errors[bad]}, expected at most ${TOLERANCE[mode]}`);
    },
  }));
  return [...cases];
}

/** Sum over the window's tokens of -ln p(token | BOS and those before it). */
async function windowNll(on: LocalStage, window: readonly number[]): Promise<number> {
  const vocab = on.config.vocabSize;
  const inputs = [BOS, ...window.slice(0, -1)];
  const rows = await withSequence(on, (sequence) => logitsOf(on, sequence, inputs));
  return window.reduce((sum, id, row) => sum + negativeLogLikelihood(rows.subarray(row * vocab, (row + 1) * vocab), id), 0);
}

function negativeLogLikelihood(row: Float32Array, id: number): number {
  const largest = row.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const total = row.reduce((sum, value) => sum + Math.exp(value - largest), 0);
  return Math.log(total) + largest - (row[id] ?? Number.NaN);
}
