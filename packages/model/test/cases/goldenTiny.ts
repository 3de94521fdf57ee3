/**
 * The trained model against transformers 5.17 (w8a32) and an independent reference of DeepSeek's online quantization (w8a8): logits, hidden states, routing and MTP
 * logits of whole prompts, computed in one step. `greedy.ts` has the long prompts and what follows them.
 */
import type { NumericMode, StepOutput } from "@shoal/model";
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
const LOGIT_TOLERANCE: Readonly<Record<NumericMode, number>> = { w8a32: 2e-3, w8a8: 1e-2 };
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
  /** One step over the prompt, then one of the MTP module; once for each prompt and mode. */
  const run = (name: string, mode: NumericMode): Promise<Run> => {
    const key = `${name} ${mode}`;
    const made = runs.get(key) ?? runPrompt(name, mode);
    runs.set(key, made);
    return made;
  };
  const runPrompt = async (name: string, mode: NumericMode): Promise<Run> => {
    const ids = (await golden(name)).ints("input_ids");
    const on = await models.tiny(mode);
    return withSequence(on, async (sequence) => {
      const step = await captured(on, sequence, ids, { hidden: true, routing: true });
      const draft = await on.draft({ entries: [{ sequence, tokens: ids.slice(1) }], output: "allLogits" });
      return { step, draftLogits: logits(draft) };
    });
  };

  const logitTests = (["w8a32", "w8a8"] as const).flatMap((mode) =>
    CASES.map((name) => ({
      name: `${mode} logits of '${name}' are within ${LOGIT_TOLERANCE[mode]} where the reference's noise is below ${QUIET}`,
      run: async () => compareLogits(await golden(name), (await run(name, mode)).step, mode),
    })),
  );
  const hiddenTests = SHORT_CASES.map((name) => ({
    name: `hidden states of '${name}' are within ${HIDDEN_TOLERANCE} of each layer's largest magnitude`,
    run: async () => compareHidden(await golden(name), (await run(name, "w8a32")).step),
  }));
  const routingTests = SHORT_CASES.map((name) => ({
    name: `the experts of '${name}' are the reference's wherever its margin exceeds ${MARGIN}, and their weights`,
    run: async () => {
      const reference = await golden(name);
      const { routing = [] } = (await run(name, "w8a32")).step;
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
  const mtpTests = (["w8a32", "w8a8"] as const).flatMap((mode) =>
    SHORT_CASES.map((name) => ({
      name: `${mode} MTP logits of '${name}' are within ${LOGIT_TOLERANCE[mode]}`,
      run: async () => compareMtp(await golden(name), (await run(name, mode)).draftLogits, mode),
    })),
  );
  return [...logitTests, ...hiddenTests, ...routingTests, ...mtpTests];
}

function compareLogits(golden: Golden, step: StepOutput, mode: NumericMode): void {
  const expected = golden.floats(`logits_${mode}`);
  const noise = golden.floats(`noise_${mode}`);
  const vocab = expected.length / noise.length;
  const actual = logits(step);
  const errors = rowErrors(actual, expected, vocab);
  const loud = (row: number): boolean => (noise[row] ?? 0) >= QUIET;
  const quietRows = errors.filter((_, row) => !loud(row)).length;
  const noisy = Math.max(0, ...errors.filter((_, row) => loud(row)));
  const worst = checkRows(`${mode} logits`, errors, LOGIT_TOLERANCE[mode], loud);
  report(
    `largest error ${worst.toExponential(1)} in ${quietRows} quiet rows, ${noisy.toExponential(1)} in the other ${errors.length - quietRows}`,
  );
  const want = argmaxRows(expected, vocab);
  const other = argmaxRows(actual, vocab).flatMap((id, row) => (id === want[row] || (mode === "w8a8" && loud(row)) ? [] : [row]));
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

/** The fixtures have no noise of the MTP logits; a row is quiet where every row up to it is, for it attends to them all. */
function compareMtp(golden: Golden, actual: Float32Array, mode: NumericMode): void {
  const expected = golden.floats(`mtp_logits_${mode}`);
  const noise = golden.floats(`noise_${mode}`);
  const vocab = expected.length / (noise.length - 1);
  const errors = rowErrors(actual, expected, vocab);
  const firstLoud = noise.findIndex((value) => value >= QUIET);
  const loud = (row: number): boolean => firstLoud >= 0 && row >= firstLoud;
  const worst = checkRows(`${mode} MTP logits`, errors, LOGIT_TOLERANCE[mode], loud);
  const quietRows = errors.filter((_, row) => !loud(row)).length;
  report(
    `largest error ${worst.toExponential(1)} in ${quietRows} of ${errors.length} rows, ${Math.max(...errors).toExponential(1)} in all`,
  );
}
