/** All of attention but its projections in one dispatch, for a few tokens after a short context (shaders/mla/attend.wgsl). */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import { headConstants, kvCacheConstants, wholeKvB } from "../mla.ts";
import { attendsInHalves, valueHalvesConstants } from "../mlaOutput/halves.ts";
import { CHUNK, FORMAT_BYTES, SCALE_BLOCK, formatConstants } from "../weights.ts";
import { attendByMatrices, hasRoom } from "./matrices.ts";
import type { MlaAttendSpec } from "./spec.ts";
import { ATTEND_OWN_ROWS, ATTEND_POSITIONS, type AttendShape } from "./variant.ts";
import { attendConstants, attendVariant } from "./variants.ts";

/** Where the rows of a step lie: they decide whether it can attend in one dispatch. */
export interface AttendedRows {
  readonly sequences: readonly number[];
  /** Of one sequence rising by one from row to row. */
  readonly positions: readonly number[];
}

/** Whether every row attends to few enough positions, few enough of them of the step itself. */
export function isShortContext({ sequences, positions }: AttendedRows): boolean {
  let own = 0;
  return positions.every((position, row) => {
    own = row > 0 && sequences[row] === sequences[row - 1] ? own + 1 : 1;
    return position < ATTEND_POSITIONS && own <= ATTEND_OWN_ROWS;
  });
}

/** Whether the device does better with this than with kvWrite, qAbsorb, mlaAttention and mlaOutput. @throws RangeError if a variant is asked for that the device cannot run */
export function attendsTogether(gpu: GpuContext, spec: MlaAttendSpec): boolean {
  const { teams, matrices } = attendVariant(gpu, attendShape(spec), spec.variant);
  return teams !== undefined || matrices !== undefined;
}

export function attendShape({ shape, cache, kvB, tokens, scratch }: MlaAttendSpec): AttendShape {
  return { shape, kvFormat: cache.format, format: kvB.format, tokens, hasRoom: hasRoom(shape, tokens, scratch) };
}

/**
 * The dispatch, or the few, for steps that `isShortContext` holds for, where `attendsTogether`.
 * @throws RangeError if kvB has another shape, or several parts, or the device does better with several, or a variant is asked for that it cannot run
 */
export async function mlaAttend(gpu: GpuContext, spec: MlaAttendSpec): Promise<readonly Dispatch[]> {
  const {
    shape,
    step,
    cache,
    x,
    xStride,
    xOffset = 0,
    gamma,
    epsilon,
    q,
    qStride,
    kvB,
    out,
    outStride,
    halves,
    tokens,
    label = "mlaAttend",
  } = spec;
  const key = attendShape(spec);
  const { teams, matrices } = attendVariant(gpu, key, spec.variant);
  if (matrices) return attendByMatrices(gpu, spec, matrices);
  if (teams === undefined) throw new RangeError("Cannot attend in one dispatch: this device does better with several");
  if (halves && (halves.layout.rows !== tokens || !attendsInHalves(gpu, kvB, halves.layout)))
    throw new RangeError(`Cannot write ${tokens} tokens' values as ${JSON.stringify(halves.layout)}`);
  const part = wholeKvB(kvB, shape);
  const kernel = await gpu.kernel(
    "mla/attend.wgsl",
    {
      ...formatConstants(gpu, kvB.format),
      ...headConstants(shape),
      ...kvCacheConstants(gpu, shape, step, cache),
      ...attendConstants(gpu.dialect.subgroupSize, teams, key),
      CHUNKS: kvB.stride / CHUNK,
      SCALE_COLUMNS: Math.ceil(kvB.cols / SCALE_BLOCK),
      X_STRIDE: xStride,
      X_OFFSET: xOffset,
      EPSILON: { f32: epsilon },
      Q_STRIDE: qStride,
      OUT_STRIDE: outStride,
      HALVES: halves !== undefined,
      ...(halves && valueHalvesConstants(kvB, halves.layout)),
      SCALE: { f32: spec.softmaxScale },
    },
    label,
  );
  const buffers = {
    batch: step.batch,
    block_table: step.blockTable,
    rope_table: step.ropeTable,
    q,
    x,
    gamma,
    weights: part.buffer,
    cache: cache.buffer,
    out: halves?.buffer ?? out,
    ...(kvB.scales && { scales: kvB.scales }),
  };
  const weights = kvB.rows * kvB.stride;
  const cost = { bytes: weights * FORMAT_BYTES[kvB.format], flops: 2 * tokens * weights };
  return [kernel.dispatch(buffers, [shape.nHeads, Math.ceil(tokens / teams.tokens), 1], cost, label)];
}
