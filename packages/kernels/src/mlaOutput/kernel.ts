/** The merge of split attention, and the value rows of kv_b_proj (shaders/mla/output*.wgsl). variants.ts says which shader. */
import type { BufferRange, Dispatch, GpuContext } from "@shoal/gpu";
import { type MlaShape, type StepBuffers, headConstants, wholeKvB } from "../mla.ts";
import type { HalvesLayout, HalvesRows } from "../matrix/halves.ts";
import { CHUNK, FORMAT_BYTES, SCALE_BLOCK, type WeightMatrix, formatConstants } from "../weights.ts";
import { attendsInHalves, valueHalvesConstants } from "./halves.ts";
import { type OutputShape, type OutputVariant, mlaOutputVariant } from "./variants.ts";

/** Where values are written as halves. */
export interface ValueHalves extends HalvesRows {
  /** kv_a_layernorm [roundUp(kvLoraRank, 16)] f32, zero beyond: attended latents cannot exceed what that norm makes. */
  readonly gamma: BufferRange;
}

export interface MlaOutputSpec {
  readonly shape: MlaShape;
  readonly step: StepBuffers;
  /** mlaAttention's, of as many splits. */
  readonly partial: GPUBuffer;
  readonly splits: number;
  /** That each of the splits has, in order; those past a token's position were not written. Absent: all were, as mlaAttention does. Only with variants that write halves. */
  readonly rangePositions?: number;
  /** kv_b_proj [nHeads * (qkNopeHeadDim + vHeadDim), kvLoraRank], in one part. */
  readonly kvB: WeightMatrix;
  /** out [tokens, outStride] f32, per head vHeadDim. */
  readonly out: GPUBuffer;
  readonly outStride: number;
  /** In place of `out`, if `outputsInHalves`. */
  readonly halves?: ValueHalves | undefined;
  readonly tokens: number;
  /** By name, of mlaOutputVariants(). */
  readonly variant?: string;
  readonly label?: string;
}

/** Whether what runs for so many tokens can write them in such a layout. @throws RangeError if a variant is asked for that there is not */
export function outputsInHalves(gpu: GpuContext, spec: Omit<MlaOutputSpec, "partial">, layout: HalvesLayout): boolean {
  return variantOf(gpu, spec).halves === true && attendsInHalves(gpu, spec.kvB, layout);
}

function variantOf(gpu: GpuContext, { shape, kvB, splits, tokens, variant }: Omit<MlaOutputSpec, "partial">): OutputVariant {
  const key: OutputShape = { tokens, splits, stride: kvB.stride, value: shape.vHeadDim, format: kvB.format };
  return mlaOutputVariant(gpu, key, variant);
}

/**
 * @throws RangeError if kvB has another shape, or several parts, or a latent does not fit workgroup memory, or a variant is asked for that there is not, or halves of one that cannot write them
 */
export async function mlaOutput(gpu: GpuContext, spec: MlaOutputSpec): Promise<readonly Dispatch[]> {
  const { shape, step, partial, splits, kvB, out, outStride, halves, tokens, label = "mlaOutput" } = spec;
  const part = wholeKvB(kvB, shape);
  const variant = variantOf(gpu, spec);
  if (halves && (halves.layout.rows !== tokens || !outputsInHalves(gpu, spec, halves.layout)))
    throw new RangeError(`Cannot write ${tokens} tokens' values as ${JSON.stringify(halves.layout)}`);
  const { subgroupSize } = gpu.dialect;
  const scales = halves && valueHalvesConstants(kvB, halves.layout);
  const kernel = await gpu.kernel(
    variant.shader,
    {
      ...formatConstants(gpu, kvB.format),
      ...headConstants(shape),
      MAX_TOKENS: step.maxTokens,
      SPLITS: splits,
      ...variant.constants,
      CHUNKS: kvB.stride / CHUNK,
      SCALE_COLUMNS: Math.ceil(kvB.cols / SCALE_BLOCK),
      OUT_STRIDE: outStride,
      RANGE_POSITIONS: spec.rangePositions ?? 0,
      HALVES: halves !== undefined,
      ...(scales && {
        ...scales,
        LANES: subgroupSize,
        GAMMA_LOADS: Math.ceil(kvB.stride / 4 / subgroupSize),
        SCALE_LOADS: Math.ceil(scales.SCALES / subgroupSize),
      }),
      OUT_VECTORS: shape.vHeadDim % 4 === 0 && outStride % 4 === 0,
    },
    label,
  );
  const buffers = {
    batch: step.batch,
    partial,
    weights: part.buffer,
    out: halves?.buffer ?? out,
    ...(halves && { gamma: halves.gamma }),
    ...(kvB.scales && { scales: kvB.scales }),
  };
  const weights = shape.nHeads * shape.vHeadDim * kvB.stride;
  const cost = { bytes: weights * FORMAT_BYTES[kvB.format], flops: 2 * tokens * weights };
  const grid = [Math.ceil(shape.vHeadDim / variant.tileValues), shape.nHeads, Math.ceil(tokens / variant.tileTokens)] as const;
  return [kernel.dispatch(buffers, grid, cost, label)];
}
