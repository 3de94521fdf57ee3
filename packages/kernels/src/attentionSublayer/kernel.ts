/** The attention of a small layer in one dispatch, for one token: from the residual stream to the residual stream (shaders/sublayer/attention.wgsl). */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import { checkBoard } from "../board.ts";
import { headConstants, kvCacheConstants, wholeKvB } from "../mla.ts";
import { FORMAT_BYTES, type WeightMatrix, formatConstants } from "../weights.ts";
import type { AttentionSublayerSpec } from "./spec.ts";
import { type AttentionSublayerShape, attentionSublayerConstants, attentionSublayerVariant } from "./variants.ts";

/** Bytes of the room in which heads meet. */
export function attentionBoardBytes(nHeads: number, hidden: number): number {
  return (nHeads * hidden + 1) * 4;
}

/** Whether the device does better with one dispatch than with several. @throws RangeError if a variant is asked for that the device cannot run */
export function attendsInSublayer(gpu: GpuContext, spec: AttentionSublayerShape & Pick<AttentionSublayerSpec, "variant">): boolean {
  return attentionSublayerVariant(gpu, spec, spec.variant).workgroup !== undefined;
}

/**
 * The dispatch, where `attendsInSublayer`, for a step of one token.
 * @throws RangeError if a matrix has another shape than the others say, or the board is too small, or the device does better with several dispatches, or a variant is asked for that it cannot run
 */
export async function attentionSublayer(gpu: GpuContext, spec: AttentionSublayerSpec): Promise<readonly Dispatch[]> {
  const { shape, qLoraRank, step, cache, x, norms, input, kvStart, queryB, kvB, output, board, label = "attention" } = spec;
  const { nHeads, qkNopeHeadDim, qkRopeHeadDim, vHeadDim, kvLoraRank } = shape;
  const { workgroup } = attentionSublayerVariant(gpu, spec, spec.variant);
  if (workgroup === undefined) throw new RangeError("Cannot attend in one dispatch: this device does better with several");
  const hidden = input.cols;
  checkBoard("attend", board, attentionBoardBytes(nHeads, hidden));
  const queryWidth = nHeads * (qkNopeHeadDim + qkRopeHeadDim);
  const buffers = {
    batch: step.batch,
    block_table: step.blockTable,
    rope_table: step.ropeTable,
    norms: norms.buffer,
    input: whole("input projections", input, kvStart + kvLoraRank + qkRopeHeadDim, hidden),
    query_b: whole("q_b_proj", queryB, queryWidth, qLoraRank),
    kv_b: wholeKvB(kvB, shape).buffer,
    output: whole("o_proj", output, hidden, nHeads * vHeadDim),
    x,
    cache: cache.buffer,
    board,
    ...(input.scales && { input_scales: input.scales }),
    ...(queryB.scales && { query_scales: queryB.scales }),
    ...(kvB.scales && { kv_scales: kvB.scales }),
    ...(output.scales && { output_scales: output.scales }),
  };
  const kernel = await gpu.kernel(
    "sublayer/attention.wgsl",
    {
      ...formatConstants(gpu, input.format),
      ...headConstants(shape),
      ...kvCacheConstants(gpu, shape, step, cache),
      ...attentionSublayerConstants(gpu.dialect.subgroupSize, workgroup, spec),
      HIDDEN: hidden,
      QUERY_RANK: qLoraRank,
      KV_START: kvStart,
      QUERY_NORM: norms.queryStart / 4,
      LATENT_NORM: norms.latentStart / 4,
      EPSILON: { f32: spec.epsilon },
      LATENT_EPSILON: { f32: spec.latentEpsilon },
      SCALE: { f32: spec.softmaxScale },
    },
    label,
  );
  const weights = [input, queryB, kvB, output].reduce((sum, { rows, stride }) => sum + rows * stride, 0);
  const cost = { bytes: weights * FORMAT_BYTES[input.format], flops: 2 * weights };
  return [kernel.dispatch(buffers, [nHeads, 1, 1], cost, label)];
}

function whole(what: string, matrix: WeightMatrix, rows: number, cols: number): GPUBuffer {
  const [part] = matrix.parts;
  if (!part || matrix.rows !== rows || matrix.cols !== cols)
    throw new RangeError(`Cannot use ${what} of [${matrix.rows}, ${matrix.cols}], expected [${rows}, ${cols}]`);
  return part.buffer;
}
