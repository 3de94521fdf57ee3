/** The rows of kernels by themselves: what the device can do at best, and the largest products of a token. */
import { GpuError, type GpuContext } from "@shoal/gpu";
import {
  type SingleKernel,
  type SingleResult,
  copyKernel,
  downKernel,
  gateUpKernel,
  headKernel,
  matmulKernel,
  measureSingle,
  readKernel,
  smallestDispatch,
} from "@shoal/kernels/bench";
import type { GpuRowName } from "./rows.ts";
import { type Measured, type Run, offeredArithmetic } from "./run.ts";
import { type StepProfile, profileStep } from "./timing.ts";

/** Fewer experts than this and the caches of a large GPU keep some of them. */
const LEAST_EXPERTS = 16;
/** Subgroup matrices round their inputs to f16. */
const MATMUL_TOLERANCE = { plain: { abs: 1e-6, rel: 1e-4 }, "subgroup matrices": { abs: 1e-6, rel: 5e-3 } };
const PROFILES = 5;

export async function kernelRows(run: Run): Promise<void> {
  const gpu = await run.open({ subgroupMatrix: true });
  try {
    await ceilings(run, gpu);
    const { kernels } = run.shapes;
    const experts = (make: typeof gateUpKernel) => (count: number) => make({ ...kernels, experts: count });
    await kernelRow(run, gpu, "gate-up", experts(gateUpKernel), kernels.experts);
    await kernelRow(run, gpu, "down", experts(downKernel), kernels.experts);
    await kernelRow(run, gpu, "head", () => headKernel(kernels), LEAST_EXPERTS);
  } finally {
    gpu.destroy();
  }
}

/** @throws what makes the device unfit for all of the suite */
async function ceilings(run: Run, gpu: GpuContext): Promise<void> {
  const { kernels } = run.shapes;
  const arithmetic = offeredArithmetic(gpu);
  run.phase("ceiling", "reading and copying buffers");
  let best: { readonly kernel: SingleKernel; readonly result: SingleResult<StepProfile> } | undefined;
  for (const bytes of kernels.readBytes) {
    const kernel = readKernel(bytes);
    const result = await unlessTooLarge(() => single(run, gpu, kernel));
    if (result && (!best || rate(result) > rate(best.result))) best = { kernel, result };
  }
  if (!best) throw new GpuError("GpuOutOfMemoryError", `Cannot read a buffer of ${kernels.readBytes[0]} bytes: it does not fit the device`);
  const copy = await single(run, gpu, copyKernel(kernels.readBytes[0] ?? 0));
  const smallest = await single(run, gpu, smallestDispatch);
  run.setBandwidth({ readBytesPerSecond: rate(best.result), copyBytesPerSecond: rate(copy), dispatchMs: smallest.ms });
  run.phase("ceiling", "multiplying matrices");
  const product = await unlessTooLarge(() => single(run, gpu, matmulKernel(kernels, MATMUL_TOLERANCE[arithmetic])));
  if (product) run.noteFlops({ [product.inspected.arithmetic]: (product.flops * 1000) / product.ms });
  const { kernel, result } = best;
  await run.measure({ name: "ceiling", what: kernel.name, arithmetic: "plain" }, async () => measured(result, "the sum of what was read"));
}

async function kernelRow(
  run: Run,
  gpu: GpuContext,
  name: GpuRowName,
  make: (experts: number) => SingleKernel,
  wanted: number,
): Promise<void> {
  if (!run.wants(name)) return;
  for (let experts = wanted; ; experts /= 2) {
    const kernel = make(experts);
    const head = { name, what: kernel.name, arithmetic: "plain" } as const;
    const work = async (): Promise<Measured> => {
      run.phase(name, kernel.name);
      return measured(await single(run, gpu, kernel), "sampled outputs against f64");
    };
    let result: Measured | undefined;
    try {
      result = await (experts / 2 < LEAST_EXPERTS ? work() : unlessTooLarge(work));
    } catch (error) {
      run.refuse(head, error);
      return;
    }
    if (!result) continue;
    await run.measure(head, () => Promise.resolve(result));
    return;
  }
}

function single(run: Run, gpu: GpuContext, kernel: SingleKernel): Promise<SingleResult<StepProfile>> {
  return measureSingle(gpu, kernel, (dispatches) => profileStep(gpu, dispatches, PROFILES), run.signal);
}

/** Undefined where the buffers do not fit. */
async function unlessTooLarge<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof GpuError && (error.name === "GpuOutOfMemoryError" || error.name === "AdapterLimitError")) return undefined;
    throw error;
  }
}

function rate({ bytes, ms }: SingleResult<unknown>): number {
  return (bytes * 1000) / ms;
}

function measured({ ms, bytes, flops, dispatches, inspected }: SingleResult<StepProfile>, verified: string): Measured {
  const work = { tokens: 1, bytes, flops, dispatches };
  return { stepMs: [ms], work, encodeMs: null, verified, ...inspected };
}
