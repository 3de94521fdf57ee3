/**
 * What subgroup matrices do on this device, wrong variants included: `deno run -A packages/kernels/test/matrix-report.ts [TEXT...]`. Prints what the device offers and
 * whether self-tests pass, without texts how far sums of 7168 products are off, and times of every variant, or of those whose names have one of the texts; goes on where one fails.
 */
import { openDenoGpu } from "@shoal/gpu/deno";
import { passesF16SelfTest, passesSubgroupMatrixSelfTest } from "../../gpu/src/selftest.ts";
import { attentionCases } from "../src/bench/attention.ts";
import { type BenchCase } from "../src/bench/case.ts";
import { manyVariantsCases } from "../src/bench/manyVariants.ts";
import { BENCH_SHAPES } from "../src/bench/sizes.ts";
import { timeDispatches } from "../src/bench/timing.ts";
import { halvesBuffer } from "../src/matrix/halves.ts";
import { matmul } from "../src/matmul/kernel.ts";
import { matmulTrials, matmulVariants } from "../src/matmul/variants.ts";
import { linearReference } from "../src/matvec/reference.ts";
import { normals, randomMatrix, runAndRead, seededRandom, uploadBatch, withBuffers } from "../src/testing/mod.ts";
import { supportedVariants } from "../src/variants.ts";

const gpu = await openDenoGpu({ webgpu: "dawn" });
const wanted = Deno.args;

console.log(`${gpu.adapter.description}: ${[...gpu.device.features].join(" ")}`);
console.log(`dialect ${JSON.stringify(gpu.dialect)}`);
if (gpu.device.features.has("shader-f16")) console.log(`f16 self-test ${(await passesF16SelfTest(gpu)) ? "passes" : "FAILS"}`);
if ((gpu.device.features as ReadonlySet<string>).has("chromium-experimental-subgroup-matrix")) {
  console.log(`subgroup matrix self-test ${(await passesSubgroupMatrixSelfTest(gpu, "hardware")) ? "passes" : "FAILS"}`);
  // Says what is wrong with the shader, which the self-test keeps to itself.
  await gpu.kernel("selftest/subgroup_matrix.wgsl", { SUBGROUP_MATRIX: "hardware" }).catch((error: unknown) => console.log(error));
}

if (wanted.length === 0) await errors();
const cases = [manyVariantsCases, attentionCases].flatMap((made) => made(BENCH_SHAPES.full, gpu));
for (const item of cases) if (wanted.length === 0 || wanted.some((text) => `${item.op} ${item.name}`.includes(text))) await time(item);
gpu.destroy();
Deno.exit(0);

/** Relative to the largest result, and to the root mean square of results. */
async function errors(): Promise<void> {
  const [rows, cols, tokens] = [256, 7168, 64];
  const random = seededRandom(11);
  await withBuffers(gpu, async (keep) => {
    const { matrix, values } = randomMatrix(gpu, random, { rows, cols, format: "fp8" });
    for (const { buffer } of matrix.parts) keep(buffer);
    const input = normals(random, tokens * cols);
    const expected = linearReference(input, values, tokens, rows, cols);
    const x = keep(gpu.upload("x", Float32Array.from(input), "activations"));
    const zeros = Array.from({ length: tokens }, () => 0);
    const halves = keep(halvesBuffer(gpu, { rows: tokens, columns: cols }));
    const step = uploadBatch(gpu, { tokens: zeros, positions: zeros, sequences: zeros, outputRows: [] }, tokens);
    keep(step.batch);
    const shape = { format: "fp8" as const, rows, tokens };
    const rms = Math.sqrt(expected.reduce((sum, value) => sum + value * value, 0) / expected.length);
    const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    for (const { name } of supportedVariants(gpu, [...matmulVariants(gpu, shape), ...matmulTrials(gpu, shape)])) {
      if (name.startsWith("emulated") && gpu.dialect.subgroupMatrix) continue;
      const y = keep(gpu.buffer({ label: "y", size: tokens * rows * 4, kind: "activations" }));
      try {
        const actual = await runAndRead(
          gpu,
          await matmul(gpu, { matrix, tokens, halves, x, xStride: cols, y, yStride: rows, step, variant: name }),
          y,
        );
        let worst = 0;
        let squares = 0;
        for (const [i, value] of expected.entries()) {
          const error = Math.abs((actual[i] ?? Number.NaN) - value);
          worst = Number.isNaN(error) ? Number.POSITIVE_INFINITY : Math.max(worst, error);
          squares += error * error;
        }
        const typical = Math.sqrt(squares / expected.length);
        console.log(
          `error of ${name}, ${cols} columns: at most ${(worst / largest).toExponential(1)} of the largest, ${(typical / rms).toExponential(1)} rms of rms`,
        );
      } catch (error) {
        console.log(`error of ${name}: FAILS, ${error instanceof Error ? error.message : String(error)}`);
      }
    }
  });
}

async function time({ op, name, prepare }: BenchCase): Promise<void> {
  try {
    await withBuffers(gpu, async (keep) => {
      const begin = performance.now();
      const { dispatches, verify, ...stated } = await prepare(gpu, keep, seededRandom(1));
      gpu.submit(dispatches);
      await gpu.idle();
      const prepared = performance.now() - begin;
      const wrong = await verify().then(
        () => "",
        (error: unknown) => `, WRONG: ${error instanceof Error ? error.message : String(error)}`,
      );
      const ms = await timeDispatches(gpu, dispatches);
      const sum = (of: "bytes" | "flops"): number => stated[of] ?? dispatches.reduce((total, dispatch) => total + (dispatch[of] ?? 0), 0);
      const rates = `${(sum("flops") / ms / 1e9).toFixed(1)} TFLOP/s, ${(sum("bytes") / ms / 1e6).toFixed(0)} GB/s`;
      console.log(`${op}: ${name}: ${ms.toFixed(4)} ms, ${rates} (ready in ${prepared.toFixed(0)} ms)${wrong}`);
    });
  } catch (error) {
    console.log(`${op}: ${name}: FAILS, ${error instanceof Error ? error.message : String(error)}`);
  }
}
