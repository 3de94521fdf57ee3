/**
 * Tolerance: none. Tokens and the filters' thresholds equal the reference's, unless the reference's own margin is under 1e-4 (scores, in f32 about 5e-6 off) or the filter's
 * under 1e-5 of the weight (exp in f32); at most a tenth of the rows of a case may be that close. Frequencies lie within 4 sigma of the probabilities.
 */
import type { GpuContext } from "@shoal/gpu";
import { encodeBatch } from "../batch.ts";
import { type ContractCase, MismatchError, type Random, assertEqual, normals, padded, seededRandom, withBuffers } from "../testing/mod.ts";
import { roundUp } from "../weights.ts";
import { sample, sampleBoardBytes, sampleScratchBytes, scratchPairs } from "./kernel.ts";
import { GREEDY, SAMPLING_PARAM_WORDS, type SamplingParams, encodeSamplingParams } from "./params.ts";
import { argmaxReference, keptReference, orderKey, sampleReference } from "./reference.ts";

const SCORE_MARGIN = 1e-4;
const FILTER_MARGIN = 1e-5;
const RING_ROW = 3;

interface Row {
  readonly logits: ArrayLike<number>;
  readonly params: SamplingParams;
  /** Of the token whose logits these are. */
  readonly position: number;
}

interface Result {
  readonly tokens: readonly number[];
  /** The last kept logit's order key and the largest kept token among its equals, by row. */
  readonly thresholds: readonly { readonly key: number; readonly token: number }[];
}

const FULL: SamplingParams = { temperature: 1, topP: 1, topK: 0, minP: 0, seed: 1n };

export const sampleContract: readonly ContractCase[] = [
  ...[1, 31, 1023, 1025, 5003].map((vocab, index) => ({
    name: `sample() greedy takes the first of the largest of ${vocab} logits`,
    run: (gpu: GpuContext) => checkGreedy(gpu, vocab, index + 1),
  })),
  ...["select", "passes"].flatMap((variant) => [
    ...[1, 257, 2053].map((vocab, index) => ({
      name: `sample() keeps and draws the reference's tokens of ${vocab}, by ${variant}`,
      run: (gpu: GpuContext) => checkSampled(gpu, vocab, variant, index + 1),
    })),
    {
      name: `sample() draws the same token whatever else is in the batch, by ${variant}`,
      run: (gpu: GpuContext) => checkIndependence(gpu, variant),
    },
    {
      name: `sample() draws with the probabilities' frequencies over 4000 seeds, by ${variant}`,
      run: (gpu: GpuContext) => checkFrequencies(gpu, variant),
    },
  ]),
];

/** Rows get slots in reverse order, so that a row taken for its slot shows. */
async function choose(
  gpu: GpuContext,
  rows: readonly Row[],
  vocab: number,
  mode: "greedy" | "sample",
  variant?: string,
  ahead: 1 | 2 = 1,
  given: readonly (number | undefined)[] = [],
): Promise<Result> {
  return withBuffers(gpu, async (keep) => {
    const count = rows.length;
    const maxTokens = Math.max(count, 16);
    const stride = roundUp(vocab, 16);
    const values = new Float64Array(count * vocab);
    const params = new Uint32Array(count * SAMPLING_PARAM_WORDS);
    // Rows of one sequence may be counted from anywhere.
    const firstOf = (index: number): number => Math.min(rows[index]?.position ?? 0, index * 3);
    for (const [index, row] of rows.entries()) {
      values.set(Array.from(row.logits), index * vocab);
      params.set(encodeSamplingParams(row.params, firstOf(index)), (count - 1 - index) * SAMPLING_PARAM_WORDS);
    }
    const words = encodeBatch(
      {
        tokens: rows.map(() => 0),
        positions: rows.map((_, index) => (rows[count - 1 - index]?.position ?? 0) - firstOf(count - 1 - index)),
        sequences: rows.map((_, index) => index),
        outputRows: rows.map((_, index) => count - 1 - index),
        given,
        ringRow: RING_ROW,
      },
      maxTokens,
    );
    const lastTokens = keep(gpu.buffer({ label: "last tokens", size: count * 4, kind: "scratch" }));
    const ring = keep(gpu.buffer({ label: "ring", size: (RING_ROW + 1) * maxTokens * 4, kind: "scratch" }));
    const scratch = keep(gpu.buffer({ label: "scratch", size: sampleScratchBytes(vocab, count), kind: "scratch" }));
    const board = keep(gpu.buffer({ label: "board", size: sampleBoardBytes(vocab, count), kind: "scratch" }));
    const dispatches = await sample(gpu, {
      // What lies past the last column would win, were it read.
      logits: keep(gpu.upload("logits", padded(values, count, vocab, stride, 1e30), "activations")),
      logitsStride: stride,
      vocab,
      step: { batch: keep(gpu.upload("batch", words, "scratch")), maxTokens },
      outputs: count,
      mode,
      ahead,
      ...(variant !== undefined && { variant }),
      params: keep(gpu.upload("params", params, "scratch")),
      lastTokens,
      ring,
      ringRows: maxTokens,
      scratch,
      board,
    });
    // Each finds the board as the one before left it.
    gpu.submit([...dispatches, ...dispatches]);
    assertEqual(new Uint32Array(await gpu.read(board)), new Uint32Array(board.size / 4), "the board");
    const tokens = [...new Uint32Array(await gpu.read(ring, RING_ROW * maxTokens * 4, count * 4))];
    const bySlot = [...new Uint32Array(await gpu.read(lastTokens, 0, count * 4))];
    // What is given was not sampled.
    assertEqual(bySlot, tokens.map((token, index) => (given[index] === undefined ? token : 0)).toReversed(), "lastTokens");
    const pairs = new Uint32Array(await gpu.read(scratch));
    const thresholds = rows.map((_, index) => {
      const head = index * scratchPairs(vocab) * 2;
      return { key: pairs[head] ?? 0, token: pairs[head + 1] ?? 0 };
    });
    return { tokens, thresholds };
  });
}

async function checkGreedy(gpu: GpuContext, vocab: number, seed: number): Promise<void> {
  const random = seededRandom(seed);
  const logits = [
    normals(random, vocab),
    // Many ties.
    normals(random, vocab).map((value) => Math.round(value)),
    normals(random, vocab).map((value, index) => (index % 3 === 0 ? Number.NaN : value - 50)),
    new Float64Array(vocab).fill(Number.NaN),
    new Float64Array(vocab).fill(Number.NEGATIVE_INFINITY),
    new Float64Array(vocab).map((_, index) => (index === 0 ? -0 : index === vocab - 1 ? 0 : -1)),
    normals(random, vocab).map((value, index) => (index === vocab - 1 ? Number.POSITIVE_INFINITY : value)),
  ];
  const rows = logits.map((row) => ({ logits: row, params: FULL, position: 0 }));
  const { tokens } = await choose(gpu, rows, vocab, "greedy");
  assertEqual(tokens, logits.map(argmaxReference), "tokens");
  const given = rows.map((_, index) => (index % 2 === 1 ? (vocab - 1 - index) % vocab : undefined));
  const noted = await choose(gpu, rows, vocab, "greedy", undefined, 1, given);
  assertEqual(
    noted.tokens,
    tokens.map((token, index) => given[index] ?? token),
    "tokens beside given ones",
  );
}

function variedParams(random: Random, vocab: number): readonly SamplingParams[] {
  const seed = (): bigint => (BigInt(random.integer(2 ** 32)) << 32n) | BigInt(random.integer(2 ** 32));
  const params: Partial<SamplingParams>[] = [
    GREEDY,
    {},
    { temperature: 0.3 },
    { topK: 1 },
    { topK: 7 },
    { topK: 40, temperature: 2 },
    { topK: vocab + 5 },
    { topP: 0.9 },
    { topP: 0.5, temperature: 1.5 },
    { topP: 0 },
    { topP: 0.99, temperature: 0.5 },
    { topK: 50, topP: 0.8, temperature: 1.3 },
    { minP: 0.1 },
    { minP: 1 },
    { topK: 30, topP: 0.95, minP: 0.02, temperature: 1.7 },
  ];
  return params.map((some) => ({ ...FULL, seed: seed(), ...some }));
}

async function checkSampled(gpu: GpuContext, vocab: number, variant: string, seed: number): Promise<void> {
  const random = seededRandom(seed);
  const logits = [
    normals(random, vocab, 2).map((value) => value + 7),
    // Ties that straddle every threshold.
    normals(random, vocab).map((value) => Math.round(value)),
    normals(random, vocab, 3).map((value, index) => (index % 5 === 2 ? Number.NaN : index % 5 === 3 ? Number.NEGATIVE_INFINITY : value)),
    new Float64Array(vocab).fill(Number.NaN),
  ];
  const rows = logits.flatMap((row) =>
    variedParams(random, vocab).map((params) => ({ logits: row, params, position: random.integer(100_000) })),
  );
  const ahead = seed % 2 === 0 ? 2 : 1;
  const { tokens, thresholds } = await choose(gpu, rows, vocab, "sample", variant, ahead);
  let close = 0;
  for (const [index, { logits: row, params, position }] of rows.entries()) {
    const choice = sampleReference(row, params, position + ahead);
    const what = `row ${index}, ${JSON.stringify({ ...params, seed: String(params.seed) })}`;
    if (params.temperature > 0) {
      const kept = keptReference(row, { ...params, minP: 0 });
      if (kept.margin < FILTER_MARGIN) {
        close++;
        continue;
      }
      const [filtered, threshold] = [params.topP < 1 || (params.topK > 0 && params.topK < vocab), thresholds[index]];
      const last = kept.tokens.at(-1);
      if (filtered && last !== undefined && threshold) {
        assertEqual([threshold.key], [orderKey(row[last] ?? 0)], `last kept logit of ${what}`);
        // Above the last kept token only where all its equals are kept.
        const next = Array.from(row).findIndex((value, token) => token > last && orderKey(value) === threshold.key);
        if (threshold.token < last || (next >= 0 && threshold.token >= next))
          throw new MismatchError(`last kept token of ${what} is ${threshold.token}, expected ${last}`);
      }
    }
    if (choice.margin < SCORE_MARGIN) close++;
    else assertEqual([tokens[index] ?? -1], [choice.token], `token of ${what}`);
  }
  if (close > rows.length / 10) throw new MismatchError(`${close} of ${rows.length} rows are too close to call, expected a tenth at most`);
}

async function checkIndependence(gpu: GpuContext, variant: string): Promise<void> {
  const vocab = 257;
  const random = seededRandom(11);
  const rows = Array.from({ length: 12 }, (_, index) => ({
    logits: normals(random, vocab),
    params: { ...FULL, topP: 0.95, seed: BigInt(index) },
    position: 40 + index,
  }));
  const together = await choose(gpu, rows, vocab, "sample", variant);
  const reversed = await choose(gpu, rows.toReversed(), vocab, "sample", variant);
  assertEqual(reversed.tokens.toReversed(), together.tokens, "tokens in reverse order");
  for (const index of [0, 7]) {
    const row = rows[index];
    if (!row) continue;
    const alone = await choose(gpu, [row], vocab, "sample", variant);
    assertEqual(alone.tokens, [together.tokens[index] ?? -1], `row ${index} alone`);
  }
}

async function checkFrequencies(gpu: GpuContext, variant: string): Promise<void> {
  const vocab = 13;
  const draws = 4000;
  const params = { ...FULL, temperature: 0.8, topK: 11, topP: 0.97 };
  const logits = normals(seededRandom(5), vocab);
  const rows = Array.from({ length: draws }, (_, seed) => ({ logits, params: { ...params, seed: BigInt(seed) }, position: 17 }));
  const { tokens } = await choose(gpu, rows, vocab, "sample", variant);
  const { tokens: kept } = keptReference(logits, params);
  const weights = Array.from(logits, (logit, token) => (kept.includes(token) ? Math.exp(logit / params.temperature) : 0));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  for (const [token, weight] of weights.entries()) {
    const expected = (draws * weight) / total;
    const drawn = tokens.filter((other) => other === token).length;
    const sigma = Math.sqrt(expected * (1 - weight / total));
    if (Math.abs(drawn - expected) > 4 * sigma)
      throw new MismatchError(`token ${token} was drawn ${drawn} times, expected ${expected.toFixed(1)} within ${(4 * sigma).toFixed(1)}`);
  }
}
