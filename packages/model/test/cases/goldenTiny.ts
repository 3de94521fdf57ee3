/**
 * The trained model in w8a32 against transformers 5.17: logits, hidden states, routing and MTP logits of whole prompts, computed in one step. `greedy.ts` has the long
 * prompts and what follows them, `quantized.ts` w8a8.
 */
import type { StepOutput } from "@shoal/model";
import { argmaxRows, check, checkRows, largestMagnitude, maxError, report, rowErrors } from "../support/compare.ts";
import { captured, logits, withSequence } from "../support/drive.ts";
import { type Golden, readGolden } from "../support/golden.ts";
import type { GpuTest, Models } from "../support/models.ts";
import { compareRouting } from "../support/routing.ts";
import { routerChoice, routerWeights } from "../support/routingMargin.ts";

/** Prompts of which every position is known. */
const CASES = ["capital", "story", "sum_sys", "multiturn"];
/** Those whose insides are known too. */
const SHORT_CASES = ["capital", "story", "sum_sys"];
const LAYERS = 6;
/** Rows noisier than this say nothing: a rounding step or a router tie fell the other way between f32 and f64. */
const QUIET = 1e-3;
const LOGIT_TOLERANCE = 2e-3;
const HIDDEN_TOLERANCE = 1e-3;
const MARGIN = 1e-5;

interface Run {
  readonly step: StepOutput;
  /** After the MTP module: row i drafts the token at i + 2. */
  readonly draftLogits: Float32Array<ArrayBuffer>;
}

export function goldenTiny(models: Models): readonly GpuTest[] {
  const runs = new Map<string, Promise<Run>>();
  const golden = (name: string): Promise<Golden> => readGolden(`tiny-${name}.safetensors`);
  /** One step over the prompt, then one of the MTP module; once for each prompt. */
  const run = (name: string): Promise<Run> => {
    const made = runs.get(name) ?? runPrompt(name);
    runs.set(name, made);
    return made;
  };
  const runPrompt = async (name: string): Promise<Run> => {
    const ids = (await golden(name)).ints("input_ids");
    const on = await models.tiny("w8a32");
    return withSequence(on, async (sequence) => {
      const step = await captured(on, sequence, ids, { hidden: true, routing: true });
      const draft = await on.draft({ entries: [{ sequence, tokens: ids.slice(1) }], output: "allLogits" });
      return { step, draftLogits: logits(draft) };
    });
  };

  const logitTests = CASES.map((name) => ({
    name: `w8a32 logits of '${name}' are within ${LOGIT_TOLERANCE} where the reference's noise is below ${QUIET}, with the same likeliest tokens`,
    run: async () => compareLogits(await golden(name), (await run(name)).step),
  }));
  const hiddenTests = SHORT_CASES.map((name) => ({
    name: `hidden states of '${name}' are within ${HIDDEN_TOLERANCE} of each layer's largest magnitude`,
    run: async () => compareHidden(await golden(name), (await run(name)).step),
  }));
  const routingTests = SHORT_CASES.map((name) => ({
    name: `the experts of '${name}' are the reference's wherever its margin exceeds ${MARGIN}, and their weights`,
    run: async () => {
      const reference = await golden(name);
      const { routing = [] } = (await run(name)).step;
      check(routing.length === LAYERS - 1, `${routing.length} MoE layers were captured, expected ${LAYERS - 1}`);
      const checkpoint = await models.checkpoint("tiny");
      const { hiddenSize, nActivatedExperts: topK } = checkpoint.config;
      let worst = 0;
      let closest = Number.POSITIVE_INFINITY;
      for (const layer of routing) {
        const weights = await routerWeights(checkpoint, layer.layer);
        const before = reference.floats(`hidden_w8a32.${layer.layer - 1}`);
        const attention = reference.floats(`attn_out_w8a32.${layer.layer}`);
        const x = before.map((value, i) => value + (attention[i] ?? 0));
        const choices = Array.from({ length: x.length / hiddenSize }, (_, row) =>
          routerChoice(checkpoint, weights, x.subarray(row * hiddenSize, (row + 1) * hiddenSize)),
        );
        const margins = choices.map(({ margin }) => margin);
        const expected = {
          indices: reference.ints(`topk_idx.${layer.layer}`),
          weights: reference.floats(`topk_weight.${layer.layer}`),
        };
        const recomputed = choices.flatMap(({ experts }) => experts);
        const astray = recomputed.findIndex((expert, i) => expert !== expected.indices[i] && (margins[Math.floor(i / topK)] ?? 0) > MARGIN);
        check(astray < 0, `the margins are not the reference's: layer ${layer.layer}, choice ${astray} is another`);
        closest = Math.min(closest, ...margins);
        worst = Math.max(
          worst,
          compareRouting(layer, expected, topK, (row) => (margins[row] ?? 0) <= MARGIN),
        );
      }
      report(`largest error of a weight ${worst.toExponential(1)}, smallest margin ${closest.toExponential(1)}`);
    },
  }));
  const mtpTests = SHORT_CASES.map((name) => ({
    name: `w8a32 MTP logits of '${name}' are within ${LOGIT_TOLERANCE}`,
    run: async () => {
      const expected = (await golden(name)).floats("mtp_logits_w8a32");
      const { vocabSize } = (await models.checkpoint("tiny")).config;
      const worst = checkRows("MTP logits", rowErrors((await run(name)).draftLogits, expected, vocabSize), LOGIT_TOLERANCE);
      report(`largest error ${worst.toExponential(1)}`);
    },
  }));
  return [...logitTests, ...hiddenTests, ...routingTests, ...mtpTests];
}

function compareLogits(golden: Golden, step: StepOutput): void {
  const expected = golden.floats("logits_w8a32");
  const noise = golden.floats("noise_w8a32");
  const vocab = expected.length / noise.length;
  const actual = logits(step);
  const errors = rowErrors(actual, expected, vocab);
  const loud = (row: number): boolean => (noise[row] ?? 0) >= QUIET;
  const worst = checkRows("w8a32 logits", errors, LOGIT_TOLERANCE, loud);
  report(`largest error ${worst.toExponential(1)} in ${errors.filter((_, row) => !loud(row)).length} of ${errors.length} rows`);
  const want = argmaxRows(expected, vocab);
  const other = argmaxRows(actual, vocab).flatMap((id, row) => (id === want[row] ? [] : [row]));
  check(other.length === 0, `the likeliest token of rows ${other.join(", ")} is another`);
}

function compareHidden(golden: Golden, { layerHidden = [] }: StepOutput): void {
  check(layerHidden.length === LAYERS, `${layerHidden.length} layers were captured, expected ${LAYERS}`);
  const relative = layerHidden.map((actual, layer) => {
    const expected = golden.floats(`hidden_w8a32.${layer}`);
    return maxError(actual, expected) / largestMagnitude(expected);
  });
  report(`by layer: ${relative.map((error) => error.toExponential(1)).join(", ")}`);
  const bad = relative.findIndex((error) => !(error <= HIDDEN_TOLERANCE));
  check(bad < 0, `the hidden states after layer ${bad} are off by ${relative[bad]} of the largest`);
}
