/** Tolerance: as rmsNorm, 1e-6 of the largest result. The reference is matvec's norm. */
import type { GpuContext } from "@shoal/gpu";
import { rmsNormReference } from "../matvec/reference.ts";
import {
  type ContractCase,
  assertClose,
  assertEqual,
  normals,
  padded,
  runAndRead,
  seededRandom,
  unpadded,
  withBuffers,
} from "../testing/mod.ts";
import { roundUp } from "../weights.ts";
import { mtpInput } from "./kernel.ts";

const SHAPES: readonly { readonly cols: number; readonly tokens: number }[] = [
  { cols: 1, tokens: 1 },
  { cols: 37, tokens: 3 },
  { cols: 200, tokens: 2 },
  { cols: 1031, tokens: 2 },
];

export const mtpInputContract: readonly ContractCase[] = SHAPES.map((shape, index) => ({
  name: `mtpInput() joins both norms, embedding first, for ${JSON.stringify(shape)}`,
  run: (gpu) => check(gpu, shape.cols, shape.tokens, index + 1),
}));

async function check(gpu: GpuContext, cols: number, tokens: number, seed: number): Promise<void> {
  const random = seededRandom(seed);
  await withBuffers(gpu, async (keep) => {
    const [embedding, hidden] = [normals(random, tokens * cols, 0.02), normals(random, tokens * cols, 30)];
    const [enormGamma, hnormGamma] = [normals(random, cols), normals(random, cols)];
    const stride = roundUp(cols, 16);
    const outStride = roundUp(2 * cols, 16);
    const upload = (label: string, values: Float64Array, rows: number) =>
      keep(gpu.upload(label, padded(values, rows, cols, stride), "activations"));
    const out = keep(gpu.buffer({ label: "out", size: tokens * outStride * 4, kind: "activations" }));
    const dispatches = await mtpInput(gpu, {
      embedding: upload("embedding", embedding, tokens),
      hidden: upload("hidden", hidden, tokens),
      stride,
      enormGamma: upload("enorm", enormGamma, 1),
      hnormGamma: upload("hnorm", hnormGamma, 1),
      epsilon: 1e-6,
      cols,
      out,
      outStride,
      tokens,
    });
    const result = await runAndRead(gpu, dispatches, out);
    const left = rmsNormReference(embedding, enormGamma, tokens, cols, 1e-6);
    const right = rmsNormReference(hidden, hnormGamma, tokens, cols, 1e-6);
    assertClose(unpadded(result, tokens, cols, outStride), left, { abs: 1e-7, rel: 1e-6 }, "the embedding's half");
    assertClose(unpadded(result.subarray(cols), tokens, cols, outStride), right, { abs: 1e-7, rel: 1e-6 }, "the hidden state's half");
    assertEqual(result.subarray(2 * cols, outStride), new Float32Array(outStride - 2 * cols), "padding");
  });
}
