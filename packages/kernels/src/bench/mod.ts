/**
 * `@shoal/kernels/bench`: every hot kernel, verified against its f64 reference on a sample of its outputs and then timed, beside what a plain copy and a plain
 * read reach in the same run. Weights that fit the caches are read from there: qAbsorb's and mlaOutput's do on large GPUs.
 */
import type { GpuContext } from "@shoal/gpu";
import { seededRandom, withBuffers } from "../testing/mod.ts";
import { attentionCases } from "./attention.ts";
import { bandwidthCases } from "./bandwidth.ts";
import { batchCases } from "./batches.ts";
import type { BenchCase } from "./case.ts";
import { choiceCases } from "./choice.ts";
import { expertCases } from "./experts.ts";
import { expertsFewCases } from "./expertsFew.ts";
import { manyVariantsCases } from "./manyVariants.ts";
import { matvecCases } from "./matvec.ts";
import { productCases } from "./products.ts";
import { BENCH_SHAPES, type BenchSize } from "./sizes.ts";
import { timeDispatches } from "./timing.ts";

export {
  type SingleKernel,
  type SingleResult,
  type SingleShapes,
  copyKernel,
  downKernel,
  gateUpKernel,
  headKernel,
  matmulKernel,
  measureSingle,
  readKernel,
  smallestDispatch,
} from "./single.ts";
export type { BenchSize } from "./sizes.ts";
export { repeatsFor, submitRuns } from "./timing.ts";

export interface KernelBenchResult {
  readonly op: string;
  readonly name: string;
  /** Of one run, which may be several dispatches. */
  readonly ms: number;
  /** Read and written at least. */
  readonly bytes: number;
  readonly gbPerS: number;
  /** Of the copy's bytes per second. */
  readonly shareOfCopy: number;
  /** Zero where nothing is multiplied. */
  readonly flops: number;
  readonly gflops: number;
}

export interface KernelBenchOptions {
  readonly size: BenchSize;
  /** Only these, besides the copy. */
  readonly ops?: readonly string[];
  readonly onResult?: (result: KernelBenchResult) => void;
  readonly signal?: AbortSignal;
}

/** @throws MismatchError if a kernel is wrong: nothing wrong is timed. */
export async function benchKernels(
  gpu: GpuContext,
  { size, ops, onResult, signal }: KernelBenchOptions,
): Promise<readonly KernelBenchResult[]> {
  const shapes = BENCH_SHAPES[size];
  const all = [
    bandwidthCases,
    matvecCases,
    productCases,
    expertsFewCases,
    expertCases,
    manyVariantsCases,
    batchCases,
    attentionCases,
    choiceCases,
  ].flatMap((cases) => cases(shapes, gpu));
  const results: KernelBenchResult[] = [];
  let copyRate = Number.NaN;
  for (const [index, item] of all.entries()) {
    if (ops && item.op !== "copy" && !ops.includes(item.op)) continue;
    const { ms, bytes, flops } = await measure(gpu, item, index + 1, signal);
    const rate = bytes / ms;
    if (item.op === "copy") copyRate = rate;
    const result = {
      op: item.op,
      name: item.name,
      ms,
      bytes,
      gbPerS: rate / 1e6,
      shareOfCopy: rate / copyRate,
      flops,
      gflops: flops / ms / 1e6,
    };
    results.push(result);
    onResult?.(result);
  }
  return results;
}

async function measure(gpu: GpuContext, { prepare }: BenchCase, seed: number, signal?: AbortSignal) {
  signal?.throwIfAborted();
  return withBuffers(gpu, async (keep) => {
    const { dispatches, verify, ...stated } = await prepare(gpu, keep, seededRandom(seed));
    gpu.submit(dispatches);
    await verify();
    const ms = await timeDispatches(gpu, dispatches, signal);
    const sum = (of: "bytes" | "flops"): number => stated[of] ?? dispatches.reduce((total, dispatch) => total + (dispatch[of] ?? 0), 0);
    return { ms, bytes: sum("bytes"), flops: sum("flops") };
  });
}
