/** Tolerance: the likeliest tokens exactly; log-probabilities within 1e-5 + 1e-6 of their size (f32 sums of up to 5,000 exponentials). */
import type { GpuContext } from "@shoal/gpu";
import {
  type ContractCase,
  MismatchError,
  assertClose,
  assertEqual,
  normals,
  padded,
  seededRandom,
  uploadBatch,
  withBuffers,
} from "../testing/mod.ts";
import { roundUp } from "../weights.ts";
import { LOGPROBS_WORDS, NO_TOKEN, TOP_LOGPROBS, logprobs } from "./kernel.ts";
import { logprobsReference } from "./reference.ts";

const RING_ROW = 1;

export const logprobsContract: readonly ContractCase[] = [1, 19, 257, 5003].map((vocab, index) => ({
  name: `logprobs() gives the chosen token's and the ${TOP_LOGPROBS} likeliest of ${vocab}`,
  run: (gpu: GpuContext) => check(gpu, vocab, index + 1),
}));

async function check(gpu: GpuContext, vocab: number, seed: number): Promise<void> {
  const random = seededRandom(seed);
  const rows = [
    normals(random, vocab, 3),
    // Many ties.
    normals(random, vocab).map((value) => Math.round(value)),
    normals(random, vocab, 2).map((value, token) => (token % 5 === 2 ? Number.NaN : token % 5 === 3 ? Number.NEGATIVE_INFINITY : value)),
    normals(random, vocab, 2000),
    new Float64Array(vocab).fill(Number.NaN),
  ].map((row) => Float64Array.from(row, Math.fround));
  const chosen = rows.map((row, index) => (index % 2 === 0 ? random.integer(vocab) : row.indexOf(Math.max(...row))));
  const count = rows.length;
  const ringRows = count + 2;
  await withBuffers(gpu, async (keep) => {
    const stride = roundUp(vocab, 16);
    const values = new Float64Array(count * vocab);
    for (const [index, row] of rows.entries()) values.set(row, index * vocab);
    const ring = new Uint32Array((RING_ROW + 1) * ringRows);
    ring.set(chosen, RING_ROW * ringRows);
    const indices = rows.map((_, index) => index);
    const step = uploadBatch(
      gpu,
      { tokens: indices, positions: indices, sequences: indices, outputRows: indices, ringRow: RING_ROW },
      ringRows,
    );
    keep(step.batch);
    const out = keep(gpu.buffer({ label: "logprobs", size: (RING_ROW + 1) * ringRows * LOGPROBS_WORDS * 4, kind: "scratch" }));
    const dispatches = await logprobs(gpu, {
      // What lies past the last column would win, were it read.
      logits: keep(gpu.upload("logits", padded(values, count, vocab, stride, 1e30), "activations")),
      logitsStride: stride,
      vocab,
      step,
      outputs: count,
      ring: keep(gpu.upload("ring", ring, "scratch")),
      ringRows,
      logprobs: out,
    });
    gpu.submit(dispatches);
    const bytes = await gpu.read(out, RING_ROW * ringRows * LOGPROBS_WORDS * 4, count * LOGPROBS_WORDS * 4);
    const [words, floats] = [new Uint32Array(bytes), new Float32Array(bytes)];
    for (const [index, row] of rows.entries()) {
      const expected = logprobsReference(row, chosen[index] ?? 0, TOP_LOGPROBS);
      const base = index * LOGPROBS_WORDS;
      const named = words.subarray(base + 1, base + 1 + TOP_LOGPROBS);
      const tokens = expected.top.map(({ token }) => token);
      assertEqual(
        named,
        [...tokens, ...Array.from({ length: TOP_LOGPROBS - tokens.length }, () => NO_TOKEN)],
        `likeliest tokens of row ${index}`,
      );
      const theirs = floats.subarray(base + 1 + TOP_LOGPROBS, base + 1 + TOP_LOGPROBS + tokens.length);
      const tolerance = { abs: 1e-5, rel: 1e-6 };
      assertClose(
        theirs,
        expected.top.map(({ logprob }) => logprob),
        tolerance,
        `their log-probabilities in row ${index}`,
      );
      assertClose([floats[base] ?? Number.NaN], [expected.chosen], tolerance, `the chosen token's in row ${index}`);
      if (floats.subarray(base + 1 + TOP_LOGPROBS, base + LOGPROBS_WORDS).some((value) => !Number.isFinite(value)))
        throw new MismatchError(`row ${index} has log-probabilities that are no numbers`);
    }
  });
}
