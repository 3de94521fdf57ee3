/** `@shoal/model/bench`: what `shoal bench` measures, the bench of the kernels included. */
export { type BenchSize, type KernelBenchResult, benchKernels } from "@shoal/kernels/bench";
export type { Bandwidth } from "./bandwidth.ts";
export { BenchError, type BenchErrorCode } from "./errors.ts";
export type { KernelTime, KernelTimes } from "./kernelTimes.ts";
export { type ModelBench, type ModelBenchOptions, type Throughput, benchContextTokens, benchModel } from "./modelBench.ts";
export type { StepCost } from "./stepCost.ts";
export type { Verification } from "./verify.ts";
export * from "./gpu/mod.ts";
