/**
 * w8a8 against the fixtures: logits and MTP logits within 1e-2 where those are quiet, and down to the last rounding step.
 *
 * A value that lies between two FP8 codes within f32's rounding errors may fall on either side in any implementation, and moves everything after it by up to 5; the
 * fixtures' noise only tells of those where their own f32 and f64 disagree. So the f64 reference (`reference/`) must give the fixture's numbers wherever those are quiet;
 * every layer of the stage must give the reference's numbers for its input in every row, quiet or not, once the few ties are resolved as the stage resolved them; and a quiet
 * row may be further than 1e-2 from the fixture only after such a tie.
 */
import { type ComputeRow, type Explanation, explain, firstParting } from "../reference/explain.ts";
import { ReferenceModel } from "../reference/model.ts";
import { Choices } from "../reference/ties.ts";
import { ReferenceWeights } from "../reference/weights.ts";
import { argmaxRows, check, checkRows, report, rowErrors } from "../support/compare.ts";
import { captured, concat, logits, withSequence } from "../support/drive.ts";
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
        name: `${what}: w8a8 logits and MTP logits are within ${TOLERANCE} where quiet, and every layer is the f64 reference's in every row with ties resolved either way`,
        run: async () => compareStage(models, () => reference(prompt.checkpoint), prompt),
      },
    ];
  });
}

/** The reference by itself. */
interface Plain {
  /** After the last layer. */
  readonly hidden: readonly Float64Array[];
  readonly choices: readonly Choices[];
}

async function plainRows(model: ReferenceModel, ids: readonly number[]): Promise<Plain> {
  const hidden: Float64Array[] = [];
  const made: Choices[] = [];
  for (const [position, id] of ids.entries()) {
    const choices = new Choices(true);
    hidden.push(await model.row(id, position, choices));
    made.push(choices);
  }
  return { hidden, choices: made };
}

async function compareReference(model: ReferenceModel, { file, prefix }: Prompt): Promise<void> {
  const golden = await readGolden(file);
  const expected = golden.floats(`${prefix}logits_w8a8`);
  const noise = golden.floats(`${prefix}noise_w8a8`);
  const { hidden } = await plainRows(model, golden.ints(`${prefix}input_ids`));
  const rows: Float32Array<ArrayBuffer>[] = [];
  for (const x of hidden) rows.push(Float32Array.from(await model.head(x, new Choices(true))));
  const errors = rowErrors(concat(rows), expected, model.config.vocabSize);
  const worst = checkRows("reference", errors, REFERENCE_TOLERANCE, (row) => (noise[row] ?? 0) >= REFERENCE_TOLERANCE);
  report(`largest error ${worst.toExponential(1)}`);
}

async function compareStage(models: Models, reference: () => Promise<ReferenceModel>, { checkpoint, file, prefix }: Prompt): Promise<void> {
  const golden = await readGolden(file);
  const ids = golden.ints(`${prefix}input_ids`);
  const on = checkpoint === "tiny" ? await models.tiny("w8a8") : await models.micro(checkpoint, "w8a8");
  const { hiddenSize, vocabSize, nLayers } = on.config;
  const { step, draft } = await withSequence(on, async (sequence) => ({
    step: await captured(on, sequence, ids, { hidden: true }),
    draft: logits(await on.draft({ entries: [{ sequence, tokens: ids.slice(1) }], output: "allLogits" })),
  }));
  const { layerHidden = [] } = step;
  check(layerHidden.length === nLayers, `${layerHidden.length} layers were captured, expected ${nLayers}`);
  const model = await reference();
  const after = (layer: number, row: number): Float64Array => Float64Array.from(rowsOf(layerHidden[layer], hiddenSize)[row] ?? []);
  const explained: Explanation[] = [];
  for (const [layer, hidden] of layerHidden.entries()) {
    const compute: ComputeRow = async (row, choices) => {
      const x = layer === 0 ? await model.embedding(ids[row] ?? 0) : after(layer - 1, row);
      return model.layer(x, layer, row, choices);
    };
    explained.push(await explain(`layer ${layer}`, rowsOf(hidden, hiddenSize), compute));
  }
  const head: ComputeRow = (row, choices) => model.head(after(nLayers - 1, row), choices);
  explained.push(await explain("logits", rowsOf(logits(step), vocabSize), head));
  const drafts = await explain("MTP logits", rowsOf(draft, vocabSize), (row, choices) =>
    model.draft(ids[row + 1] ?? 0, after(nLayers - 1, row), row, choices),
  );

  const plain = await plainRows(await reference(), ids);
  const parting = firstParting(
    plain.choices,
    ids.map((_, row) => explained.map(({ choices }) => choices[row])),
  );
  const noise = golden.floats(`${prefix}noise_w8a8`);
  compareGolden("logits", logits(step), golden.floats(`${prefix}logits_w8a8`), noise, parting);
  if (golden.has(`${prefix}mtp_logits_w8a8`)) {
    const plainDrafts: Choices[] = [];
    const plainModel = await reference();
    for (const [row, id] of ids.slice(1).entries()) {
      const choices = new Choices(true);
      await plainModel.draft(id, plain.hidden[row] ?? new Float64Array(hiddenSize), row, choices);
      plainDrafts.push(choices);
    }
    const draftParting = firstParting(
      plainDrafts.slice(0, parting),
      drafts.choices.map((choices) => [choices]),
    );
    // There is no noise of the MTP logits. A row attends to all before it: it is quiet as long as they are.
    const soFar = noise.slice(0, -1).map((_, i) => Math.max(...noise.subarray(0, i + 1)));
    compareGolden("MTP logits", draft, golden.floats(`${prefix}mtp_logits_w8a8`), soFar, Math.min(parting, draftParting));
  }
  const all = [...explained, drafts];
  const turned = all.flatMap((part) => part.turned);
  const error = Math.max(...all.map((part) => part.error));
  report(
    `layer by layer: largest error ${error.toExponential(1)} of a row's largest value; ${turned.length} ties turned in ${ids.length} rows`,
  );
  for (const { row, choice, distance } of turned) report(`  row ${row}: ${choice}, ${distance.toExponential(0)} from the middle`);
  check(turned.length <= Math.max(2, ids.length * MOST_TIES_A_ROW), `${turned.length} ties in ${ids.length} rows`);
}

function rowsOf(values: Float32Array = new Float32Array(0), columns = 1): readonly Float32Array[] {
  return Array.from({ length: values.length / columns }, (_, row) => values.subarray(row * columns, (row + 1) * columns));
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
