/** A stored matrix as dense f32 (shaders/dequantize/dequantize.wgsl), for inspection and comparison; products decode weights themselves. */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import { FORMAT_BYTES, SCALE_BLOCK, type WeightMatrix, formatConstants } from "../weights.ts";

const MAX_WORKGROUPS = 65535;

export interface DequantizeSpec {
  readonly matrix: WeightMatrix;
  /** [rows, cols] f32. */
  readonly y: GPUBuffer;
  readonly label?: string;
}

/** One dispatch for each part of the matrix. */
export async function dequantize(gpu: GpuContext, { matrix, y, label = "dequantize" }: DequantizeSpec): Promise<readonly Dispatch[]> {
  const chunks = matrix.stride / 16;
  const dispatches: Dispatch[] = [];
  for (const part of matrix.parts) {
    const kernel = await gpu.kernel(
      "dequantize/dequantize.wgsl",
      {
        ...formatConstants(gpu, matrix.format),
        CHUNKS: chunks,
        COLS: matrix.cols,
        SCALE_COLUMNS: Math.ceil(matrix.cols / SCALE_BLOCK),
        ROW_START: part.rowStart,
        ROW_COUNT: part.rows,
      },
      label,
    );
    const buffers = { weights: part.buffer, y, ...(matrix.scales && { scales: matrix.scales }) };
    const bytes = part.rows * matrix.stride * (FORMAT_BYTES[matrix.format] + 4);
    const grid = [Math.ceil(chunks / 64), Math.min(part.rows, MAX_WORKGROUPS), 1] as const;
    dispatches.push(kernel.dispatch(buffers, grid, { bytes }, label));
  }
  return dispatches;
}
