/** Whether the gate of a few tokens runs as one dispatch, and how its workgroups share rows and columns. */
import type { GpuContext } from "@shoal/gpu";
import { type RowTeams, prefersTeams, sizeClass, teamsVariant } from "../rowTeams.ts";
import { type Variant, chooseVariant } from "../variants.ts";
import type { WeightMatrix } from "../weights.ts";

export interface GateVariant extends Variant {
  /** Absent: not in one dispatch, but as rmsNorm, matvec and router have it. */
  readonly teams?: RowTeams;
}

/** Storage buffers of the shader, but for scales. */
const BINDINGS = 8;

const APART: GateVariant = { name: "apart", constants: {} };

/** Few rows, long ones: all of a row in flight. The parts of a row meet in workgroup memory, so there are two at least. */
const TOGETHER: readonly GateVariant[] = [
  teamsVariant(1, 32, 8, 8, 1, 4),
  teamsVariant(2, 32, 8, 4, 1, 4),
  teamsVariant(1, 32, 8, 2, 1, 4),
  teamsVariant(2, 32, 16, 4, 1, 4),
];

/** The best guess for the device first. Software adapters have dispatches that cost nothing. */
export function gateVariants(gpu: GpuContext, matrix: Pick<WeightMatrix, "format" | "parts">): readonly GateVariant[] {
  const bindings = BINDINGS + (matrix.format === "fp8" ? 1 : 0);
  const fits = matrix.parts.length === 1 && gpu.limits.maxStorageBuffersPerShaderStage >= bindings;
  const together = fits ? TOGETHER : [];
  return prefersTeams(gpu) ? [...together, APART] : [APART, ...together];
}

/** @throws RangeError if one is asked for that the device cannot run */
export function gateVariant(gpu: GpuContext, matrix: WeightMatrix, asked?: string): GateVariant {
  const key = `gateFew/${matrix.format}/${sizeClass(matrix.rows)}x${sizeClass(matrix.stride)}`;
  return chooseVariant(gpu, key, gateVariants(gpu, matrix), asked);
}
