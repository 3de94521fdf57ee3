/** Activations rounded as DeepSeek's w8a8 rounds them (shaders/actQuant/actQuant.wgsl). */
import type { Dispatch, GpuContext } from "@shoal/gpu";

const GROUP = 128;
const GROUPS_PER_WORKGROUP = 4;

/** `ue8m0`: scales are powers of two, as DeepSeek-V3.1 wants them (`scale_fmt` of its config). */
export type ScaleFormat = "f32" | "ue8m0";

export interface ActQuantSpec {
  /** [rows, stride] f32, from column `offset` on; both multiples of 4, zero up to the next multiple of 4 past `cols`. Changed in place. */
  readonly x: GPUBuffer;
  readonly stride: number;
  readonly offset?: number;
  readonly cols: number;
  readonly rows: number;
  readonly scaleFormat?: ScaleFormat;
  readonly label?: string;
}

export async function actQuant(gpu: GpuContext, spec: ActQuantSpec): Promise<readonly Dispatch[]> {
  const { x, stride, offset = 0, cols, rows, scaleFormat = "f32", label = "act-quant" } = spec;
  const kernel = await gpu.kernel(
    "actQuant/actQuant.wgsl",
    { STRIDE: stride, OFFSET: offset, VECTORS: Math.ceil(cols / 4), UE8M0: scaleFormat === "ue8m0" },
    label,
  );
  const grid = [Math.ceil(cols / GROUP / GROUPS_PER_WORKGROUP), rows, 1] as const;
  return [kernel.dispatch({ x }, grid, { bytes: rows * cols * 8 }, label)];
}
