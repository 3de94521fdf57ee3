/** Nothing but products by subgroup matrices (shaders/bench/matrix_rate.wgsl): what benches compare products with. */
import type { Dispatch, GpuContext } from "@shoal/gpu";

const SUBGROUPS = 8;
/** Products that a subgroup makes in a round, and what one costs. */
const PRODUCTS = 8;
const PRODUCT_FLOPS = 2 * 16 ** 3;

export interface MatrixRateSpec {
  readonly workgroups: number;
  readonly rounds: number;
  /** matrixRateBytes(workgroups) bytes. */
  readonly results: GPUBuffer;
  /** Default: the hardware's. */
  readonly how?: "hardware" | "emulated";
}

export function matrixRateBytes(workgroups: number): number {
  return workgroups * PRODUCTS * 4;
}

/** What each workgroup writes. */
export function matrixRateReference(rounds: number): readonly number[] {
  return Array.from({ length: PRODUCTS }, (_, i) => 16 * rounds * (Math.floor(i / 4) + 1) * ((i % 4) + 1));
}

export async function matrixRate(gpu: GpuContext, { workgroups, rounds, results, how = "hardware" }: MatrixRateSpec): Promise<Dispatch> {
  const kernel = await gpu.kernel("bench/matrix_rate.wgsl", { SUBGROUP_MATRIX: how, ROUNDS: rounds }, "matrix rate");
  const cost = { bytes: matrixRateBytes(workgroups), flops: workgroups * SUBGROUPS * rounds * PRODUCTS * PRODUCT_FLOPS };
  return kernel.dispatch({ results }, [workgroups, 1, 1], cost);
}
