/** How shaders that stream weights past a few rows (shaders/lib/stream.wgsl) sum over a workgroup. */
import type { GpuContext, ShaderConstants } from "@shoal/gpu";

/** One subgroup where that is known to be 32 or 64 wide; otherwise 64 invocations, with barriers. */
export function streamConstants({ dialect }: GpuContext): ShaderConstants {
  const single = dialect.subgroups !== "none" && (dialect.subgroupSize === 32 || dialect.subgroupSize === 64);
  return { WORKGROUP: single ? dialect.subgroupSize : 64, SINGLE_SUBGROUP: single };
}
