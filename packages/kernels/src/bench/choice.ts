/** The choice of the next token. */
import type { GpuContext } from "@shoal/gpu";
import { sample, sampleBoardBytes, sampleScratchBytes, sampleVariants } from "../sample/kernel.ts";
import { GREEDY, type SamplingParams, encodeSamplingParams } from "../sample/params.ts";
import { sampleReference } from "../sample/reference.ts";
import { type Random, assertEqual, normals, uploadBatch } from "../testing/mod.ts";
import { roundUp } from "../weights.ts";
import type { BenchCases, Keep, Prepared } from "./case.ts";

const POSITION = 100;
const SAMPLED: SamplingParams = { temperature: 0.6, topP: 0.95, topK: 50, minP: 0, seed: 42n };
/** Nearer to another choice than this, the GPU's exp and log may decide otherwise. */
const SURE = 1e-4;

/** What is sampled is timed as the device would find the tokens to keep, and as it would not. */
export const choiceCases: BenchCases = ({ vocab }, gpu) => [
  { op: "sample", name: `greedy, ${vocab} tokens`, prepare: (device, keep, random) => choice(device, keep, random, vocab, GREEDY) },
  ...sampleVariants(gpu).flatMap(({ name: variant }) =>
    [
      { what: "top-k 50, top-p 0.95", params: SAMPLED },
      { what: "top-p 0.95", params: { ...SAMPLED, topK: 0 } },
      { what: "temperature 0.6", params: { ...SAMPLED, topK: 0, topP: 1 } },
    ].map(({ what, params }) => ({
      op: "sample",
      name: `${what}, ${vocab} tokens, ${variant}`,
      prepare: (device: GpuContext, keep: Keep, random: Random) => choice(device, keep, random, vocab, params, variant),
    })),
  ),
];

async function choice(
  gpu: GpuContext,
  keep: Keep,
  random: Random,
  vocab: number,
  params: SamplingParams,
  variant?: string,
): Promise<Prepared> {
  const values = normals(random, vocab, 4);
  const logitsStride = roundUp(vocab, 16);
  const logits = keep(gpu.buffer({ label: "logits", size: logitsStride * 4, kind: "activations" }));
  gpu.write(logits, 0, Float32Array.from(values));
  // A seed whose choice is clear: what is timed is the same.
  let seed = params.seed;
  while (sampleReference(values, { ...params, seed }, POSITION + 1).margin < SURE && seed < params.seed + 20n) seed++;
  const step = uploadBatch(gpu, { tokens: [0], positions: [POSITION], sequences: [0], outputRows: [0] }, 1);
  keep(step.batch);
  const ring = keep(gpu.buffer({ label: "ring", size: 4, kind: "scratch" }));
  const dispatches = await sample(gpu, {
    logits,
    logitsStride,
    vocab,
    step,
    outputs: 1,
    mode: params.temperature > 0 ? "sample" : "greedy",
    ...(variant !== undefined && { variant }),
    params: keep(gpu.upload("params", encodeSamplingParams({ ...params, seed }), "scratch")),
    lastTokens: keep(gpu.buffer({ label: "last tokens", size: 4, kind: "scratch" })),
    ring,
    ringRows: 1,
    scratch: keep(gpu.buffer({ label: "scratch", size: sampleScratchBytes(vocab, 1), kind: "scratch" })),
    board: keep(gpu.buffer({ label: "board", size: sampleBoardBytes(vocab, 1), kind: "scratch" })),
  });
  const verify = async (): Promise<void> => {
    const { token } = sampleReference(values, { ...params, seed }, POSITION + 1);
    assertEqual(new Uint32Array(await gpu.read(ring, 0, 4)), [token], "token");
  };
  return { dispatches, verify };
}
