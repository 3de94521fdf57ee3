/**
 * FP8 arithmetic against the golden results of an independent implementation (packages/model/test/fixtures/README.md: `dequant.*`, `act_quant.*`,
 * `fp8_linear.*`). Dequantized weights and quantized activations must be equal to the last bit; products, float64 there and f32 sums here, within 2e-6 of
 * the largest.
 */
import type { GpuContext } from "@shoal/gpu";
import { type DenoEngine, openDenoGpu } from "@shoal/gpu/deno";
import { type WeightMatrix, actQuant, dequantize, matmul, matvec, roundUp } from "@shoal/kernels";
import { assertClose, assertEqual, padded, runAndRead, unpadded, uploadBatch, withBuffers } from "@shoal/kernels/testing";
import { opsFixture } from "./fixture.ts";

const ROWS = 300;
const COLS = 260;
const TOKENS = 7;

type Keep = <B extends GPUBuffer>(buffer: B) => B;

export async function tests(webgpu: DenoEngine): Promise<readonly { name: string; run: () => Promise<void> | void }[]> {
  const gpu = await openDenoGpu({ webgpu });
  const tensor = opsFixture();
  const floats = (name: string): Float32Array<ArrayBuffer> => new Float32Array(tensor(name));
  const quantized = (name: string, rows: number, cols: number) => ({
    name: `actQuant() equals ${name} to the last bit`,
    run: () =>
      withBuffers(gpu, async (keep) => {
        const stride = roundUp(cols, 16);
        const x = keep(gpu.upload("x", padded(floats(`${name}.x`), rows, cols, stride), "activations"));
        const result = await runAndRead(gpu, await actQuant(gpu, { x, stride, cols, rows }), x);
        assertEqual(unpadded(result, rows, cols, stride), floats(`${name}.dequantised`), name);
      }),
  });
  const linear = (kernel: "matvec" | "matmul", mode: "w8a32" | "w8a8") => ({
    name: `${kernel}() equals fp8_linear.${mode}`,
    run: () =>
      withBuffers(gpu, async (keep) => {
        const matrix = goldenMatrix(gpu, keep, tensor);
        const xStride = matrix.stride;
        const yStride = roundUp(ROWS, 16);
        const x = keep(gpu.upload("x", padded(floats("fp8_linear.x"), TOKENS, COLS, xStride), "activations"));
        const y = keep(gpu.buffer({ label: "y", size: TOKENS * yStride * 4, kind: "activations" }));
        const zeros = Array.from({ length: TOKENS }, () => 0);
        const step = uploadBatch(gpu, { tokens: zeros, positions: zeros, sequences: zeros, outputRows: [] }, TOKENS);
        keep(step.batch);
        const spec = { matrix, tokens: TOKENS, x, xStride, y, yStride };
        const dispatches = [
          ...(mode === "w8a8" ? await actQuant(gpu, { x, stride: xStride, cols: COLS, rows: TOKENS }) : []),
          ...(kernel === "matvec" ? await matvec(gpu, spec) : await matmul(gpu, { ...spec, step })),
        ];
        const result = unpadded(await runAndRead(gpu, dispatches, y), TOKENS, ROWS, yStride);
        assertClose(result, floats(`fp8_linear.${mode}`), { abs: 0, rel: 2e-6 }, mode);
      }),
  });
  return [
    quantized("act_quant", 16, 512),
    quantized("act_quant_ragged", 5, 200),
    {
      name: "dequantize() equals dequant.out to the last bit",
      run: () =>
        withBuffers(gpu, async (keep) => {
          const matrix = goldenMatrix(gpu, keep, tensor);
          const y = keep(gpu.buffer({ label: "y", size: ROWS * COLS * 4, kind: "scratch" }));
          assertEqual(await runAndRead(gpu, await dequantize(gpu, { matrix, y }), y), floats("dequant.out"), "dequant.out");
        }),
    },
    linear("matvec", "w8a32"),
    linear("matvec", "w8a8"),
    linear("matmul", "w8a32"),
    linear("matmul", "w8a8"),
    { name: "the context closes", run: () => gpu.destroy() },
  ];
}

function goldenMatrix(gpu: GpuContext, keep: Keep, tensor: (name: string) => ArrayBuffer): WeightMatrix {
  const codes = new Uint8Array(tensor("dequant.codes"));
  const stride = roundUp(COLS, 16);
  const stored = new Uint8Array(ROWS * stride);
  for (let r = 0; r < ROWS; r++) stored.set(codes.subarray(r * COLS, (r + 1) * COLS), r * stride);
  const buffer = keep(gpu.upload("weights", stored, "weights"));
  const scales = keep(gpu.upload("scales", new Float32Array(tensor("dequant.scale_inv")), "weights"));
  return { format: "fp8", rows: ROWS, cols: COLS, stride, parts: [{ buffer, rowStart: 0, rows: ROWS }], scales };
}
