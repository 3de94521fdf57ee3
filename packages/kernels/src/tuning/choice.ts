/** The draw of the next token, with filters that most chats use. */
import { sample, sampleBoardBytes, sampleScratchBytes } from "../sample/kernel.ts";
import { type SamplingParams, encodeSamplingParams } from "../sample/params.ts";
import { sampleReference } from "../sample/reference.ts";
import { assertEqual, normals, uploadBatch } from "../testing/mod.ts";
import { roundUp } from "../weights.ts";
import type { TuningCase } from "./case.ts";

const POSITION = 100;
const PARAMS: SamplingParams = { temperature: 0.6, topP: 0.95, topK: 50, minP: 0, seed: 42n };
/** Nearer to another choice than this, the GPU's exp and log may decide otherwise. */
const SURE = 1e-4;
const MOST_SEEDS = 20n;

export function sampleCase(model: string, vocab: number): TuningCase {
  return {
    op: "sample",
    name: `${model} draw among ${vocab} tokens, top-k 50, top-p 0.95`,
    prepare: async (gpu, keep, random) => {
      const values = normals(random, vocab, 4);
      let params = PARAMS;
      while (sampleReference(values, params, POSITION + 1).margin < SURE && params.seed < PARAMS.seed + MOST_SEEDS)
        params = { ...params, seed: params.seed + 1n };
      const { token } = sampleReference(values, params, POSITION + 1);
      const logitsStride = roundUp(vocab, 16);
      const logits = keep(gpu.buffer({ label: "logits", size: logitsStride * 4, kind: "activations" }));
      gpu.write(logits, 0, Float32Array.from(values));
      const step = uploadBatch(gpu, { tokens: [0], positions: [POSITION], sequences: [0], outputRows: [0] }, 1);
      keep(step.batch);
      const ring = keep(gpu.buffer({ label: "ring", size: 4, kind: "scratch" }));
      const spec = {
        logits,
        logitsStride,
        vocab,
        step,
        outputs: 1,
        mode: "sample" as const,
        ring,
        ringRows: 1,
        params: keep(gpu.upload("params", encodeSamplingParams(params), "scratch")),
        lastTokens: keep(gpu.buffer({ label: "last tokens", size: 4, kind: "scratch" })),
        scratch: keep(gpu.buffer({ label: "scratch", size: sampleScratchBytes(vocab, 1), kind: "scratch" })),
        board: keep(gpu.buffer({ label: "board", size: sampleBoardBytes(vocab, 1), kind: "scratch" })),
      };
      return {
        rounds: 1,
        outputs: [ring],
        record: () => sample(gpu, spec),
        verify: async () => assertEqual(new Uint32Array(await gpu.read(ring, 0, 4)), [token], "token"),
      };
    },
  };
}
