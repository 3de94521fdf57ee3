/** The rows of a batch whose logits are wanted (shaders/gatherRows/gatherRows.wgsl). */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import type { Step } from "../batch.ts";

export interface GatherRowsSpec {
  /** x [tokens, xStride] f32; strides are multiples of 4. */
  readonly x: GPUBuffer;
  readonly xStride: number;
  /** Copied up to the next multiple of 4. */
  readonly cols: number;
  /** out [outputs, outStride] f32. Another buffer than x. */
  readonly out: GPUBuffer;
  readonly outStride: number;
  readonly step: Step;
  /** Sizes the grid; the batch's own count decides. */
  readonly outputs: number;
  readonly label?: string;
}

export async function gatherRows(gpu: GpuContext, spec: GatherRowsSpec): Promise<readonly Dispatch[]> {
  const { x, xStride, cols, out, outStride, step, outputs, label = "gatherRows" } = spec;
  const kernel = await gpu.kernel(
    "gatherRows/gatherRows.wgsl",
    { MAX_TOKENS: step.maxTokens, VECTORS: Math.ceil(cols / 4), X_STRIDE: xStride, OUT_STRIDE: outStride },
    label,
  );
  return [kernel.dispatch({ x, batch: step.batch, out }, [outputs, 1, 1], { bytes: outputs * cols * 8 }, label)];
}
