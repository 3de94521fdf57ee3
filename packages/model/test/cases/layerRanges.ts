/** Stages that hold some of the layers each, passing hidden states on, against one that holds all. */
import type { LocalStage, SequenceSlot } from "@shoal/model";
import { check, checkRows, report, rowErrors } from "../support/compare.ts";
import { logits, logitsOf, withSequence } from "../support/drive.ts";
import { readGolden } from "../support/golden.ts";
import type { CheckpointName, GpuTest, Models } from "../support/models.ts";

const TOLERANCE = 1e-4;
/** A prefill in two steps, then single tokens. */
const STEPS = [64, 60, 1, 1, 1, 1];

const SPLITS: readonly { readonly name: CheckpointName; readonly at: readonly number[] }[] = [
  { name: "ragged-v3-fp8", at: [0, 1, 2] },
  { name: "micro-v2-bf16", at: [0, 2, 3] },
  { name: "micro-v2-bf16", at: [0, 1, 2, 3] },
];

export function layerRanges(models: Models): readonly GpuTest[] {
  return SPLITS.map(({ name, at }) => ({
    name: `${name}: stages of layers ${at
      .slice(1)
      .map((end, i) => `${at[i]}-${end}`)
      .join(", ")} together compute what one computes`,
    run: async () => {
      const ids = (await readGolden(`${name}-golden.safetensors`)).ints("case2.input_ids");
      const one = await models.micro(name, "w8a32");
      const parts: LocalStage[] = [];
      for (const [index, end] of at.slice(1).entries())
        parts.push(
          await models.stage(name, { contextTokens: 256, maxTokens: 160, maxOutputs: 160, layers: { begin: at[index] ?? 0, end } }),
        );
      const described = await Promise.all(parts.map((part) => part.describe()));
      check(described.map(({ hasEmbedding }) => hasEmbedding).lastIndexOf(true) === 0, "a stage other than the first has an embedding");
      check(described.findIndex(({ hasHead }) => hasHead) === parts.length - 1, "a stage other than the last has a head");
      const total = STEPS.reduce((sum, count) => sum + count, 0);
      const expected = await withSequence(one, (sequence) => logitsOf(one, sequence, ids.slice(0, total)));
      const sequences = await Promise.all(parts.map((part) => part.open()));
      let begin = 0;
      let worst = 0;
      for (const count of STEPS) {
        const rows = await relay(parts, sequences, ids.slice(begin, begin + count));
        const { vocabSize } = one.config;
        const want = expected.slice(begin * vocabSize, (begin + count) * vocabSize);
        worst = Math.max(worst, checkRows(`the step at ${begin}`, rowErrors(rows, want, vocabSize), TOLERANCE));
        begin += count;
      }
      for (const [index, sequence] of sequences.entries()) await parts[index]?.close(sequence);
      report(`largest difference ${worst.toExponential(1)}`);
    },
  }));
}

/** One step through all stages. */
async function relay(parts: readonly LocalStage[], sequences: readonly SequenceSlot[], tokens: readonly number[]): Promise<Float32Array> {
  let hidden: Float32Array<ArrayBuffer> | undefined;
  for (const [index, part] of parts.entries()) {
    const sequence = sequences[index];
    if (sequence === undefined) throw new RangeError(`No sequence for stage ${index}`);
    const isLast = index === parts.length - 1;
    const step = await part.forward({
      entries: [{ sequence, tokens, ...(hidden && { hidden }) }],
      output: isLast ? "allLogits" : "hidden",
    });
    if (isLast) return logits(step);
    hidden = step.hidden;
  }
  throw new RangeError("There are no stages");
}
