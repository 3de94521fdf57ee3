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
  uploadBatch,
  withBuffers,
} from "../testing/mod.ts";
import { roundUp } from "../weights.ts";
import { mtpInput } from "./kernel.ts";

/** `sources` of a step of SOURCE_ROWS rows. */
const SHAPES: readonly { readonly cols: number; readonly sources: readonly number[] }[] = [
  { cols: 1, sources: [0] },
  { cols: 37, sources: [0, 1, 2] },
  { cols: 200, sources: [3, 4] },
  { cols: 1031, sources: [1, 4] },
];
const SOURCE_ROWS = 5;

export const mtpInputContract: readonly ContractCase[] = SHAPES.map((shape, index) => ({
  name: `mtpInput() joins both norms, embedding first, for ${JSON.stringify(shape)}`,
  run: (gpu) => check(gpu, shape.cols, shape.sources, index + 1),
}));

async function check(gpu: GpuContext, cols: number, sources: readonly number[], seed: number): Promise<void> {
  const random = seededRandom(seed);
  const tokens = sources.length;
  await withBuffers(gpu, async (keep) => {
    const [embedding, hidden] = [normals(random, tokens * cols, 0.02), normals(random, SOURCE_ROWS * cols, 30)];
    const [enormGamma, hnormGamma] = [normals(random, cols), normals(random, cols)];
    const stride = roundUp(cols, 16);
    const outStride = roundUp(2 * cols, 16);
    const upload = (label: string, values: Float64Array, rows: number) =>
      keep(gpu.upload(label, padded(values, rows, cols, stride), "activations"));
    const out = keep(gpu.buffer({ label: "out", size: tokens * outStride * 4, kind: "activations" }));
    const rows = sources.map((_, row) => row);
    const step = uploadBatch(gpu, { tokens: rows, positions: rows, sequences: rows.map(() => 0), outputRows: [], sources }, SOURCE_ROWS);
    keep(step.batch);
    const dispatches = await mtpInput(gpu, {
      step,
      embedding: upload("embedding", embedding, tokens),
      hidden: upload("hidden", hidden, SOURCE_ROWS),
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
    const states = Float64Array.from(sources.flatMap((row) => [...hidden.subarray(row * cols, (row + 1) * cols)]));
    const right = rmsNormReference(states, hnormGamma, tokens, cols, 1e-6);
    assertClose(unpadded(result, tokens, cols, outStride), left, { abs: 1e-7, rel: 1e-6 }, "the embedding's half");
    assertClose(unpadded(result.subarray(cols), tokens, cols, outStride), right, { abs: 1e-7, rel: 1e-6 }, "the hidden state's half");
    assertEqual(result.subarray(2 * cols, outStride), new Float32Array(outStride - 2 * cols), "padding");
  });
}
