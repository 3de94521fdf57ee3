/** Tolerance: 2 units in the last place of the largest term (f32 sums and one quotient); untouched values, masks and counts exactly. */
import type { GpuContext } from "@shoal/gpu";
import { GREEDY, type LogitAdjustments, SAMPLING_PARAM_WORDS, encodeSamplingParams } from "../sample/params.ts";
import {
  type ContractCase,
  type Random,
  assertClose,
  assertEqual,
  normals,
  padded,
  runAndRead,
  seededRandom,
  unpadded,
  uploadBatch,
  withBuffers,
} from "../testing/mod.ts";
import { roundUp } from "../weights.ts";
import { TOKEN_IN_PROMPT, adjustLogits, countTokens, maskRowWords } from "./kernel.ts";
import { type AdjustedRow, adjustReference } from "./reference.ts";

const RING_ROW = 2;

export const adjustContract: readonly ContractCase[] = [
  ...[1, 33, 1025, 3001].map((vocab, index) => ({
    name: `adjustLogits() biases, penalizes and masks ${vocab} logits`,
    run: (gpu: GpuContext) => checkAdjusted(gpu, vocab, index + 1),
  })),
  { name: "countTokens() counts the tokens chosen for sequences with penalties, and no others", run: checkCounts },
];

function randomRows(random: Random, vocab: number): readonly AdjustedRow[] {
  const some = (count: number): number[] => Array.from({ length: count }, () => random.integer(vocab));
  const odd = random.integer(2);
  const adjustments: readonly LogitAdjustments[] = [
    {},
    { repetitionPenalty: 1.3 },
    { frequencyPenalty: 0.7, presencePenalty: -0.4 },
    { logitBias: new Map(some(20).map((token) => [token, random.integer(201) - 100])) },
    { repetitionPenalty: 0.8, frequencyPenalty: -1.5, presencePenalty: 2, logitBias: new Map([[vocab - 1, 3.25]]) },
    { logitBias: new Map([[0, -100]]) },
  ];
  return adjustments.map((adjustment, index) => ({
    logits: Float32Array.from(normals(random, vocab, 4)).map((value, token) =>
      token % 17 === 5 ? Number.NEGATIVE_INFINITY : token % 17 === 6 ? Number.NaN : value,
    ),
    adjustments: adjustment,
    prompt: some(15),
    generated: some(index * 3),
    ...(index % 2 === 1 && { allows: (token: number) => (token * 7 + index) % 3 !== odd }),
  }));
}

function maskRow(allows: ((token: number) => boolean) | undefined, vocab: number): Uint32Array {
  const words = new Uint32Array(maskRowWords(vocab));
  words[0] = Number(allows !== undefined);
  for (let token = 0; token < vocab; token++)
    if (allows?.(token) === true) words[1 + (token >> 5)] = ((words[1 + (token >> 5)] ?? 0) | (1 << (token & 31))) >>> 0;
  return words;
}

function historyOf({ prompt, generated }: AdjustedRow, vocab: number): Uint32Array {
  const words = new Uint32Array(vocab);
  for (const token of generated) words[token] = (words[token] ?? 0) + 1;
  for (const token of prompt) words[token] = ((words[token] ?? 0) | TOKEN_IN_PROMPT) >>> 0;
  return words;
}

async function checkAdjusted(gpu: GpuContext, vocab: number, seed: number): Promise<void> {
  const rows = randomRows(seededRandom(seed), vocab);
  const count = rows.length;
  await withBuffers(gpu, async (keep) => {
    const stride = roundUp(vocab, 16);
    const params = new Uint32Array(count * SAMPLING_PARAM_WORDS);
    const history = new Uint32Array(count * vocab);
    const bias = new Float32Array(count * vocab);
    const masks = new Uint32Array(count * maskRowWords(vocab));
    const logits = new Float64Array(count * vocab);
    for (const [index, row] of rows.entries()) {
      // Slots count the other way round: what belongs to the sequence and what to the row are told apart.
      const slot = count - 1 - index;
      params.set(encodeSamplingParams({ ...GREEDY, ...row.adjustments }), slot * SAMPLING_PARAM_WORDS);
      history.set(historyOf(row, vocab), slot * vocab);
      for (const [token, value] of row.adjustments.logitBias ?? []) bias[slot * vocab + token] = value;
      masks.set(maskRow(row.allows, vocab), index * maskRowWords(vocab));
      logits.set(Float64Array.from(row.logits), index * vocab);
    }
    const zeros = rows.map(() => 0);
    const step = uploadBatch(
      gpu,
      {
        tokens: zeros,
        positions: zeros,
        sequences: rows.map((_, index) => index),
        outputRows: rows.map((_, index) => count - 1 - index),
      },
      count + 3,
    );
    keep(step.batch);
    const adjusted = keep(gpu.buffer({ label: "adjusted", size: count * stride * 4, kind: "activations" }));
    const dispatches = await adjustLogits(gpu, {
      logits: keep(gpu.upload("logits", padded(logits, count, vocab, stride), "activations")),
      logitsStride: stride,
      adjusted,
      vocab,
      step,
      params: keep(gpu.upload("params", params, "scratch")),
      history: keep(gpu.upload("history", history, "scratch")),
      bias: keep(gpu.upload("bias", bias, "scratch")),
      masks: keep(gpu.upload("masks", masks, "scratch")),
      outputs: count,
    });
    const result = unpadded(await runAndRead(gpu, dispatches, adjusted), count, vocab, stride);
    for (const [index, row] of rows.entries()) {
      const expected = adjustReference(row);
      const actual = result.subarray(index * vocab, (index + 1) * vocab);
      const infinite = (values: Float64Array): number[] =>
        Array.from(values, (value) => (Number.isFinite(value) ? 0 : Number.isNaN(value) ? 2 : 1));
      assertEqual(infinite(actual), infinite(expected), `what is not a number in row ${index}`);
      const finite = (values: Float64Array): number[] => Array.from(values, (value) => (Number.isFinite(value) ? value : 0));
      assertClose(finite(actual), finite(expected), { abs: 2e-5 }, `row ${index}`);
    }
  });
}

async function checkCounts(gpu: GpuContext): Promise<void> {
  const [vocab, slots, ringRows] = [70, 3, 80];
  await withBuffers(gpu, async (keep) => {
    const params = new Uint32Array(slots * SAMPLING_PARAM_WORDS);
    for (const [slot, presencePenalty] of [1, 0, -1].entries())
      params.set(encodeSamplingParams({ ...GREEDY, presencePenalty }), slot * SAMPLING_PARAM_WORDS);
    const random = seededRandom(3);
    // More rows than the workgroup has invocations, one sequence many times.
    const sequences = Array.from({ length: 75 }, () => random.integer(slots));
    const chosen = sequences.map(() => random.integer(vocab));
    const ring = new Uint32Array((RING_ROW + 1) * ringRows).fill(1);
    ring.set(chosen, RING_ROW * ringRows);
    const rows = sequences.map((_, index) => index);
    const given = chosen.map((token, row) => (row % 7 === 3 ? token : undefined));
    const step = uploadBatch(gpu, { tokens: chosen, positions: rows, sequences, outputRows: rows, given, ringRow: RING_ROW }, ringRows);
    keep(step.batch);
    const before = Uint32Array.from({ length: slots * vocab }, (_, index) => (index % 5 === 0 ? TOKEN_IN_PROMPT + 2 : 0));
    const history = keep(gpu.upload("history", before, "scratch"));
    const spec = { vocab, step, params: keep(gpu.upload("params", params, "scratch")), history };
    gpu.submit(await countTokens(gpu, { ...spec, ring: keep(gpu.upload("ring", ring, "scratch")), ringRows }));
    const expected = before.slice();
    for (const [row, token] of chosen.entries()) {
      const slot = sequences[row] ?? 0;
      if (slot !== 1 && given[row] === undefined) expected[slot * vocab + token] = (expected[slot * vocab + token] ?? 0) + 1;
    }
    assertEqual(new Uint32Array(await gpu.read(history)).subarray(0, expected.length), expected, "history");
  });
}
