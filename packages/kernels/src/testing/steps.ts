/** A step's batch on the GPU. */
import type { GpuContext } from "@shoal/gpu";
import { type BatchRows, type Step, encodeBatch } from "../batch.ts";

export function uploadBatch(gpu: GpuContext, rows: BatchRows, maxTokens: number): Step {
  return { batch: gpu.upload("batch", encodeBatch(rows, maxTokens), "activations"), maxTokens };
}
