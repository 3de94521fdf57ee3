/**
 * w8a8 against the fixtures: logits and MTP logits within 1e-2 where those are quiet, and down to the last rounding step.
 *
 * A value that lies between two FP8 codes within f32's rounding errors may fall on either side in any implementation, and moves everything after it by up to 5; the
 * fixtures' noise only tells of those where their own f32 and f64 disagree. So the f64 reference (`reference/`) must give the fixture's numbers wherever those are quiet;
 * the stage must give the reference's numbers in every layer of every row, quiet or not, once the few ties are resolved as the stage resolved them; and a quiet row may be
 * further than 1e-2 from the fixture only after such a tie.
 */
import type { StepOutput } from "@shoal/model";
import { type Explanation, explain } from "../reference/explain.ts";
import { ReferenceModel } from "../reference/model.ts";
import { Choices } from "../reference/ties.ts";
import { ReferenceWeights } from "../reference/weights.ts";
import { argmaxRows, check, checkRows, report, rowErrors } from "../support/compare.ts";
import { captured, logits, withSequence } from "../support/drive.ts";
import { readGolden } from "../support/golden.ts";
import type { CheckpointName, GpuTest, Models } from "../support/models.ts";

/** The reference and the fixture's f64 twin are one computation: what is left is the fixture's own f32 noise. */
const REFERENCE_TOLERANCE = 1e-4;
const TOLERANCE = 1e-2;
/** Rows noisier than this say nothing. */
const QUIET = 1e-3;
/** A tie among some thousand choices a row is rare: more of them would be an excuse. */
const MOST_TIES_A_ROW = 0.2;

interface Prompt {
  readonly checkpoint: CheckpointName;
  readonly file: string;
  /** Before each tensor's name. */
  readonly prefix: string;
}

export const TINY_PROMPTS: readonly Prompt[] = ["capital", "story", "sum_sys", "multiturn"].map((name) => ({
  checkpoint: "tiny",
  file: `tiny-${name}.safetensors`,
  prefix: "",
}));
export const RAGGED_PROMPTS: readonly Prompt[] = ["case1.", "case2."].map((prefix) => ({
  checkpoint: "ragged-v3-fp8",
  file: "ragged-v3-fp8-golden.safetensors",
  prefix,
}));

export function quantized(models: Models, prompts: readonly Prompt[]): readonly GpuTest[] {
  const loaded = new Map<CheckpointName, ReferenceWeights>();
  const reference = async (name: CheckpointName): Promise<ReferenceModel> => {
    const checkpoint = await models.checkpoint(name);
    const weights = loaded.get(name) ?? new ReferenceWeights(checkpoint);
    loaded.set(name, weights);
    return new ReferenceModel(checkpoint, weights);
  };
  return prompts.flatMap((prompt) => {
    const what = `${prompt.checkpoint} '${prompt.prefix || prompt.file}'`;
    return [
      {
        name: `${what}: the f64 reference gives the fixture's w8a8 logits in its quiet rows`,
        run: async () => compareReference(await reference(prompt.checkpoint), prompt),
      },
      {
        name: `${what}: w8a8 logits and MTP logits are within ${TOLERANCE} where quiet, and the f64 reference's in every row with ties resolved either way`,
        run: async () => compareStage(models, await reference(prompt.checkpoint), prompt),
      },
    ];
  });
}

async function compareReference(model: ReferenceModel, { file, prefix }: Prompt): Promise<void> {
  const golden = await readGolden(file);
  const expected = golden.floats(`${prefix}logits_w8a8`);
  const noise = golden.floats(`${prefix}noise_w8a8`);
  const rows: number[] = [];
  for (const [position, id] of golden.ints(`${prefix}input_ids`).entries()) {
    const { computed } = await model.row(id, position, new Choices(true));
    rows.push(...(computed.at(-1)?.values ?? []));
  }
  const errors = rowErrors(Float32Array.from(rows), expected, model.config.vocabSize);
  const worst = checkRows("reference", errors, REFERENCE_TOLERANCE, (row) => (noise[row] ?? 0) >= REFERENCE_TOLERANCE);
  report(`largest error ${worst.toExponential(1)}`);
}

async function compareStage(models: Models, model: ReferenceModel, { checkpoint, file, prefix }: Prompt): Promise<void> {
  const golden = await readGolden(file);
  const ids = golden.ints(`${prefix}input_ids`);
  const on = checkpoint === "tiny" ? await models.tiny("w8a8") : await models.micro(checkpoint, "w8a8");
  const { hiddenSize, vocabSize } = on.config;
  const [step, draft] = await withSequence(on, async (sequence) => {
    const step: StepOutput = await captured(on, sequence, ids, { hidden: true });
    return [step, logits(await on.draft({ entries: [{ sequence, tokens: ids.slice(1) }], output: "allLogits" }))] as const;
  });
  const row = (values: Float32Array, index: number, columns: number): Float32Array =>
    values.subarray(index * columns, (index + 1) * columns);
  const normed: Float64Array[] = [];
  const main = await explain(
    ids.map((_, i) => [...(step.layerHidden ?? []).map((hidden) => row(hidden, i, hiddenSize)), row(logits(step), i, vocabSize)]),
    async (i, choices) => {
      const computed = await model.row(ids[i] ?? 0, i, choices);
      normed[i] = computed.normed;
      return computed.computed;
    },
  );
  verify("the model", main, ids.length);
  const noise = golden.floats(`${prefix}noise_w8a8`);
  compareGolden("logits", logits(step), golden.floats(`${prefix}logits_w8a8`), noise, firstRow(main));
  const drafts = await explain(
    ids.slice(1).map((_, i) => [row(draft, i, vocabSize)]),
    async (i, choices) => {
      const values = await model.draft(ids[i + 1] ?? 0, normed[i] ?? new Float64Array(hiddenSize), i, choices);
      return [{ values, ties: choices.ties.length }];
    },
  );
  verify("the MTP module", drafts, ids.length - 1);
  if (!golden.has(`${prefix}mtp_logits_w8a8`)) return;
  // There is no noise of the MTP logits. A row attends to all before it: it is quiet as long as they are.
  const soFar = noise.slice(0, -1).map((_, i) => Math.max(...noise.subarray(0, i + 1)));
  compareGolden("MTP logits", draft, golden.floats(`${prefix}mtp_logits_w8a8`), soFar, Math.min(firstRow(main), firstRow(drafts)));
}

/** The first row that a tie moved. */
function firstRow({ turned }: Explanation): number {
  return turned[0]?.row ?? Number.POSITIVE_INFINITY;
}

/** Within the tolerance in quiet rows, and of the same likeliest token; but for rows that a tie moved, or that attend to one that it moved. */
function compareGolden(what: string, actual: Float32Array, expected: Float32Array, noise: Float32Array, firstMoved: number): void {
  const columns = expected.length / noise.length;
  const errors = rowErrors(actual, expected, columns);
  const loud = (row: number): boolean => (noise[row] ?? 0) >= QUIET;
  const moved = (row: number): boolean => row >= firstMoved && (errors[row] ?? 0) > TOLERANCE;
  const worst = checkRows(what, errors, TOLERANCE, (row) => loud(row) || moved(row));
  const quiet = errors.filter((_, row) => !loud(row)).length;
  const excused = errors.filter((_, row) => !loud(row) && moved(row)).length;
  report(`${what}: largest error ${worst.toExponential(1)} in ${quiet - excused} of ${quiet} quiet rows; ${excused} were moved by ties`);
  const want = argmaxRows(expected, columns);
  const other = argmaxRows(actual, columns).flatMap((id, row) => (id === want[row] || loud(row) || moved(row) ? [] : [row]));
  check(other.length === 0, `${what}: the likeliest token of rows ${other.join(", ")} is another`);
}

function verify(what: string, { errors, turned, lost }: Explanation, rows: number): void {
  const named = turned
    .map(({ row, tie }) => `row ${row}: ${tie.choice.replace("model.layers.", "")} (${tie.distance.toExponential(0)})`)
    .join("; ");
  report(
    `${what}: largest error of logits ${Math.max(0, ...errors).toExponential(1)}, ${turned.length} ties in ${rows} rows${named && ` - ${named}`}`,
  );
  check(!lost, `${what}: no tie explains row ${lost?.row} after layer ${lost?.stage}, which is off by ${lost?.error}`);
  checkRows(what, errors, TOLERANCE);
  check(turned.length <= Math.max(2, rows * MOST_TIES_A_ROW), `${what}: ${turned.length} ties in ${rows} rows`);
}
