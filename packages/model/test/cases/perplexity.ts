/** Perplexity of prose that training did not see, against an independent implementation; and what an FP8 KV cache makes of it. */
import { readFileSync } from "node:fs";
import process from "node:process";
import type { NumericMode } from "@shoal/model";
import { check, report } from "../support/compare.ts";
import { FIXTURES } from "../support/golden.ts";
import type { GpuTest, Models } from "../support/models.ts";
import { heldOutProse, windowNll } from "../support/perplexity.ts";

/** Exact sums take a software adapter ten seconds a window: SHOAL_LONG=1 takes all ten of w8a8. */
const WINDOWS: Readonly<Record<NumericMode, number>> = { w8a32: 10, w8a8: process.env["SHOAL_LONG"] === "1" ? 10 : 2 };
/**
 * Of a window's sum. w8a32: f32 noise of 3e-5 a logit, at random over 512 tokens. w8a8: values near a rounding step fall on either side between f32 and f64 too, and
 * move single logits by up to 5, up or down, so only the sum says something.
 */
const TOLERANCE: Readonly<Record<NumericMode, number>> = { w8a32: 1e-5, w8a8: 5e-3 };
const FP8_WINDOWS = 3;
/** Of the sum of those windows; 2e-4 was measured. */
const FP8_TOLERANCE = 0.01;

interface Expected {
  readonly tokens: number;
  readonly window_nll_sums: readonly number[];
}

export function perplexity(models: Models): readonly GpuTest[] {
  const expected = JSON.parse(readFileSync(`${FIXTURES}perplexity.json`, "utf8")) as Record<NumericMode, Expected>;
  const cases = (["w8a32", "w8a8"] as const).map((mode) => ({
    name: `${mode} likelihood of held-out prose is the reference's within ${TOLERANCE[mode]} in each of ${WINDOWS[mode]} windows`,
    run: async () => {
      const ids = await heldOutProse(models);
      check(ids.length === expected[mode].tokens, `the prose has ${ids.length} tokens, expected ${expected[mode].tokens}`);
      const on = await models.tiny(mode);
      const errors: number[] = [];
      for (const [window, want] of expected[mode].window_nll_sums.slice(0, WINDOWS[mode]).entries()) {
        const sum = await windowNll(on, ids, window);
        errors.push(Math.abs(sum - want) / want);
      }
      report(`relative errors ${errors.map((error) => error.toExponential(1)).join(", ")}`);
      const bad = errors.findIndex((error) => !(error <= TOLERANCE[mode]));
      check(bad < 0, `window ${bad} is off by ${errors[bad]}, expected at most ${TOLERANCE[mode]}`);
    },
  }));
  const fp8: GpuTest = {
    name: `an FP8 KV cache changes the likelihood of held-out prose by less than ${100 * FP8_TOLERANCE} %, and not by nothing`,
    run: async () => {
      const ids = await heldOutProse(models);
      const on = await models.stage("tiny", { kvFormat: "fp8", contextTokens: 512, maxTokens: 256, maxOutputs: 256 });
      const wanted = expected.w8a32.window_nll_sums.slice(0, FP8_WINDOWS).reduce((sum, window) => sum + window, 0);
      let sum = 0;
      for (let window = 0; window < FP8_WINDOWS; window++) sum += await windowNll(on, ids, window);
      const change = (sum - wanted) / wanted;
      report(`changed by ${(100 * change).toFixed(3)} %`);
      check(Math.abs(change) < FP8_TOLERANCE && Math.abs(change) > 1e-5, `changed by ${change}`);
    },
  };
  return [...cases, fp8];
}
