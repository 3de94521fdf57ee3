/** RMSNorm by itself (shaders/rmsNorm/rmsNorm.wgsl); where a matvec follows, its `norm` is cheaper. */
import type { BufferRange, Dispatch, GpuContext } from "@shoal/gpu";
import { rowConstants } from "../weights.ts";

export interface RmsNormSpec {
  /** x [tokens, xStride] f32, from column `xOffset` on; both multiples of 4. */
  readonly x: GPUBuffer;
  readonly xStride: number;
  readonly xOffset?: number;
  /** [roundUp(cols, 16)] f32. */
  readonly gamma: BufferRange;
  readonly epsilon: number;
  readonly cols: number;
  /** y [tokens, yStride] f32, from column `yOffset` on; both multiples of 4. Another buffer than x. */
  readonly y: GPUBuffer;
  readonly yStride: number;
  readonly yOffset?: number;
  /** Every one of these rows is computed. */
  readonly tokens: number;
  /** Sums exactly: see exact/kernel.ts. */
  readonly exact?: boolean;
  readonly label?: string;
}

export async function rmsNorm(gpu: GpuContext, spec: RmsNormSpec): Promise<readonly Dispatch[]> {
  const { x, xStride, xOffset = 0, gamma, epsilon, cols, y, yStride, yOffset = 0, tokens, exact = false, label = "rmsNorm" } = spec;
  const kernel = await gpu.kernel(
    "rmsNorm/rmsNorm.wgsl",
    {
      ...rowConstants(gpu, cols),
      COLS: cols,
      X_STRIDE: xStride,
      X_OFFSET: xOffset,
      Y_STRIDE: yStride,
      Y_OFFSET: yOffset,
      EPSILON: { f32: epsilon },
      EXACT: exact,
    },
    label,
  );
  return [kernel.dispatch({ x, gamma, y }, [tokens, 1, 1], { bytes: tokens * cols * 8, flops: tokens * cols * 4 }, label)];
}
