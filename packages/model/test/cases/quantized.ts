/**
 * w8a8 against the fixtures: logits and MTP logits within 1e-2, and of the same likeliest token, in every row that the fixtures call quiet.
 *
 * A value in the middle between two FP8 codes may fall on either side by a sum's last bit, and moves everything after it by up to 5. With sums in f32 some 7 % of the quiet
 * rows were moved so, others on every device; the exact ones of w8a8 (`shaders/exact/`) decide as f64 does wherever f32 inputs allow.
 */
import { argmaxRows, check, checkRows, report, rowErrors } from "../support/compare.ts";
import { captured, logits, withSequence } from "../support/drive.ts";
import { readGolden } from "../support/golden.ts";
import type { CheckpointName, GpuTest, Models } from "../support/models.ts";

const TOLERANCE = 1e-2;
/** Rows noisier than this say nothing. */
const QUIET = 1e-3;

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
  return prompts.map((prompt) => ({
    name: `${prompt.checkpoint} '${prompt.prefix || prompt.file}': w8a8 logits and MTP logits are within ${TOLERANCE} in every quiet row`,
    run: () => comparePrompt(models, prompt),
  }));
}

async function comparePrompt(models: Models, { checkpoint, file, prefix }: Prompt): Promise<void> {
  const golden = await readGolden(file);
  const ids = golden.ints(`${prefix}input_ids`);
  const on = checkpoint === "tiny" ? await models.tiny("w8a8") : await models.micro(checkpoint, "w8a8");
  const { step, draft } = await withSequence(on, async (sequence) => ({
    step: logits(await captured(on, sequence, ids, {})),
    draft: logits(await on.draft({ entries: [{ sequence, tokens: ids.slice(1) }], output: "allLogits" })),
  }));
  const noise = golden.floats(`${prefix}noise_w8a8`);
  compareGolden("logits", step, golden.floats(`${prefix}logits_w8a8`), noise);
  if (!golden.has(`${prefix}mtp_logits_w8a8`)) return;
  // There is no noise of the MTP logits. A row attends to all before it: it is quiet as long as they are.
  const soFar = noise.slice(0, -1).map((_, i) => Math.max(...noise.subarray(0, i + 1)));
  compareGolden("MTP logits", draft, golden.floats(`${prefix}mtp_logits_w8a8`), soFar);
}

function compareGolden(what: string, actual: Float32Array, expected: Float32Array, noise: Float32Array): void {
  const columns = expected.length / noise.length;
  const errors = rowErrors(actual, expected, columns);
  const loud = (row: number): boolean => (noise[row] ?? 0) >= QUIET;
  const quiet = errors.filter((_, row) => !loud(row)).length;
  check(quiet > 0, `${what}: no row is quiet`);
  const worst = checkRows(what, errors, TOLERANCE, loud);
  report(`${what}: largest error ${worst.toExponential(1)} in ${quiet} quiet rows of ${errors.length}`);
  const want = argmaxRows(expected, columns);
  const other = argmaxRows(actual, columns).flatMap((id, row) => (id === want[row] || loud(row) ? [] : [row]));
  check(other.length === 0, `${what}: the likeliest token of rows ${other.join(", ")} is another`);
}
