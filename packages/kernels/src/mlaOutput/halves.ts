/** Attended values written as halves, for an output projection by subgroup matrices (shaders/lib/put_value.wgsl). */
import type { GpuContext, ShaderConstants } from "@shoal/gpu";
import { type HalvesLayout, halvesConstants } from "../matrix/halves.ts";
import { SCALE_BLOCK, type WeightMatrix } from "../weights.ts";

/**
 * Whether values can be written in such a layout: for strips that read one f16 number of each. Their powers of two go by what they cannot exceed, some 2^12 times what they are, for which f16 has room, but
 * not for a second number.
 */
export function attendsInHalves({ dialect }: GpuContext, { format }: WeightMatrix, layout: HalvesLayout): boolean {
  const { blocks = false, columns, products } = layout;
  return dialect.f16 && format === "fp8" && layout.format === "fp8" && blocks && products === 1 && columns % SCALE_BLOCK === 0;
}

/** Constants of lib/put_value.wgsl, and how many scales kvB has. */
export function valueHalvesConstants({ rows, cols }: WeightMatrix, layout: HalvesLayout): ShaderConstants & { readonly SCALES: number } {
  return { ...halvesConstants(layout), SCALES: Math.ceil(rows / SCALE_BLOCK) * Math.ceil(cols / SCALE_BLOCK) };
}
