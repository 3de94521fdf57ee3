/** The suite of large models' shapes against a device's limits (`shoal bench --suite gpu`). */
export type {
  FailedRow,
  GpuBench,
  GpuCeilings,
  GpuLimit,
  GpuRow,
  MeasuredRow,
  RowTimeline,
  SkippedRow,
  StepWork,
  TimelineSlice,
} from "./result.ts";
export { type Arithmetic, GPU_ROWS, type GpuRowName, type GpuUnit, isGpuRowName } from "./rows.ts";
export type { GpuBenchOptions } from "./run.ts";
export type { DemoConfigs } from "./shapes.ts";
export { benchGpu, ratioRow } from "./suite.ts";
export type { TinyModel } from "./tinyRow.ts";
export { type TraceFile, traceFile } from "./traceEvents.ts";
