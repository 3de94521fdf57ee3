/** A step's keys and values into the latent cache (shaders/mla/kv_write.wgsl). */
import type { BufferRange, Dispatch, GpuContext } from "@shoal/gpu";
import { type KvCache, type MlaShape, type StepBuffers, headConstants, kvCacheConstants } from "../mla.ts";
import { reductionConstants } from "../weights.ts";

export interface KvWriteSpec {
  readonly shape: MlaShape;
  readonly step: StepBuffers;
  readonly cache: KvCache;
  /** x [tokens, xStride] f32; from column `xOffset` on: latent (kvLoraRank), key part (qkRopeHeadDim). */
  readonly x: GPUBuffer;
  readonly xStride: number;
  readonly xOffset?: number;
  /** kv_a_layernorm [roundUp(kvLoraRank, 16)] f32. */
  readonly gamma: BufferRange;
  readonly epsilon: number;
  readonly tokens: number;
  /** Sums exactly: see exact/kernel.ts. */
  readonly exact?: boolean;
  readonly label?: string;
}

export async function kvWrite(gpu: GpuContext, spec: KvWriteSpec): Promise<readonly Dispatch[]> {
  const { shape, step, cache, x, xStride, xOffset = 0, gamma, epsilon, tokens, exact = false, label = "kvWrite" } = spec;
  const kernel = await gpu.kernel(
    "mla/kv_write.wgsl",
    {
      ...workgroupConstants(gpu),
      ...headConstants(shape),
      ...kvCacheConstants(gpu, shape, step, cache),
      X_STRIDE: xStride,
      X_OFFSET: xOffset,
      EPSILON: { f32: epsilon },
      EXACT: exact,
    },
    label,
  );
  const buffers = { batch: step.batch, block_table: step.blockTable, rope_table: step.ropeTable, x, gamma, cache: cache.buffer };
  const bytes = tokens * ((shape.kvLoraRank + shape.qkRopeHeadDim) * 4 + cache.rowBytes);
  return [kernel.dispatch(buffers, [tokens, 1, 1], { bytes }, label)];
}

/** A token's row is all that its workgroup waits for: on a GPU many invocations, so that each loads little; a subgroup would load one value after another. */
function workgroupConstants(gpu: GpuContext): ReturnType<typeof reductionConstants> {
  return gpu.adapter.isSoftware ? reductionConstants(gpu) : { WORKGROUP: 256, SINGLE_SUBGROUP: false };
}
