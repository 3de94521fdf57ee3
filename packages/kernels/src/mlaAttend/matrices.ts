/**
 * Attention over a short context for steps of many sequences, by subgroup matrices, in three dispatches: queries and cache rows (shaders/mla/q_absorb_several.wgsl), attention of 16 heads at a time over 32
 * positions (attend_matrix.wgsl), merge and values (output_several.wgsl).
 */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import { kvRowBytes } from "../kvRow.ts";
import { type MlaShape, headConstants, kvCacheConstants } from "../mla.ts";
import { partialBytes } from "../mlaAttention/kernel.ts";
import { mlaOutput } from "../mlaOutput/kernel.ts";
import { absorbedHalvesBytes, absorbedHalvesConstants, qAbsorb } from "../qAbsorb/kernel.ts";
import type { AttendScratch, MlaAttendSpec } from "./spec.ts";
import { ATTEND_POSITIONS, type AttendShape, type AttendVariant } from "./variant.ts";

/** Rows, columns and depth of a fragment; heads of a workgroup. */
const FRAGMENT = 16;
/** Positions and invocations of a workgroup. */
const POSITIONS = 32;
const THREADS = 256;
const SPLITS = ATTEND_POSITIONS / POSITIONS;
const VECTOR_BYTES = 16;
/** Heads of all tokens, at most: beyond, what a workgroup of one dispatch shares pays as well, and partial results take much room. */
const MOST_HEADS = 1024;

/** As mlaAttention's by matrices: the hardware cuts f32 sums off, and a score's error is one of all its weight. */
const TOLERANCES: Readonly<Record<MatrixMode, number>> = { hardware: 1e-4, emulated: 1e-5 };

export type MatrixMode = NonNullable<AttendVariant["matrices"]>;

export function attendScratchBytes(shape: MlaShape, tokens: number): { readonly absorbed: number; readonly partial: number } {
  return { absorbed: absorbedHalvesBytes(shape, tokens), partial: partialBytes(shape, tokens, SPLITS) };
}

/** Whether there is room for a step of so many tokens. */
export function hasRoom(shape: MlaShape, tokens: number, scratch: AttendScratch | undefined): boolean {
  const { absorbed, partial } = attendScratchBytes(shape, tokens);
  return scratch !== undefined && scratch.absorbed.size >= absorbed && scratch.partial.size >= partial;
}

export function matrices(mode: MatrixMode, { shape, kvFormat, format, tokens }: AttendShape): AttendVariant {
  const { nHeads, kvLoraRank, qkRopeHeadDim } = shape;
  return {
    name: mode === "hardware" ? "matrices" : mode,
    constants: {},
    matrices: mode,
    tolerance: TOLERANCES[mode],
    supported: ({ dialect, limits }) =>
      kvFormat === "f16" &&
      format === "fp8" &&
      [nHeads, kvLoraRank, qkRopeHeadDim].every((size) => size % FRAGMENT === 0) &&
      nHeads * tokens <= MOST_HEADS &&
      dialect.subgroups !== "none" &&
      (mode === "emulated" || dialect.subgroupMatrix !== undefined) &&
      limits.maxComputeWorkgroupStorageSize >= workgroupBytes(shape, mode) &&
      limits.maxComputeInvocationsPerWorkgroup >= 2 * THREADS &&
      limits.maxComputeWorkgroupSizeX >= 2 * THREADS &&
      limits.maxStorageBuffersPerShaderStage >= 10,
  };
}

function workgroupBytes({ kvLoraRank, qkRopeHeadDim }: MlaShape, mode: MatrixMode): number {
  const rowVectors = (kvLoraRank + qkRopeHeadDim) / 8 + 1;
  const tile = POSITIONS * rowVectors + 4 * POSITIONS * 4 + 2 * FRAGMENT * (POSITIONS / 8 + 1);
  return tile * VECTOR_BYTES + (mode === "emulated" ? THREADS * 4 + VECTOR_BYTES : 0);
}

export async function attendByMatrices(gpu: GpuContext, spec: MlaAttendSpec, mode: MatrixMode): Promise<readonly Dispatch[]> {
  const { shape, step, cache, x, xStride, xOffset = 0, gamma, epsilon, q, qStride, kvB, out, outStride, halves, scratch, tokens } = spec;
  const { label = "mlaAttend" } = spec;
  if (!scratch || !hasRoom(shape, tokens, scratch))
    throw new RangeError(`Cannot attend by matrices: no room for ${tokens} tokens between the dispatches`);
  const { absorbed, partial } = scratch;
  const [absorb, values] = await Promise.all([
    qAbsorb(gpu, {
      shape,
      step,
      q,
      qStride,
      kvB,
      out: absorbed,
      outStride: shape.nHeads * (shape.kvLoraRank + shape.qkRopeHeadDim),
      halves: { cache, x, xStride, xOffset, gamma, epsilon, room: tokens },
      tokens,
      variant: "several",
      label: `${label}: queries`,
    }),
    mlaOutput(gpu, {
      shape,
      step,
      partial,
      splits: SPLITS,
      rangePositions: POSITIONS,
      kvB,
      out,
      outStride,
      halves: halves && { ...halves, gamma },
      tokens,
      variant: "several",
      label: `${label}: values`,
    }),
  ]);
  return [...absorb, await attend(gpu, spec, { absorbed, partial }, mode), ...values];
}

async function attend(gpu: GpuContext, spec: MlaAttendSpec, { absorbed, partial }: AttendScratch, mode: MatrixMode): Promise<Dispatch> {
  const { shape, step, cache, softmaxScale, tokens, label = "mlaAttend" } = spec;
  const octets = (shape.kvLoraRank + shape.qkRopeHeadDim) / 8;
  const kernel = await gpu.kernel(
    "mla/attend_matrix.wgsl",
    {
      ...headConstants(shape),
      ...kvCacheConstants(gpu, shape, step, cache),
      ...absorbedHalvesConstants(tokens),
      CACHE_ROW: kvRowBytes(shape, "f16") / VECTOR_BYTES,
      SUBGROUP_MATRIX: mode,
      OPERAND_STRIDES: true,
      STORED_OPERANDS: true,
      STORED_SUMS: true,
      SUM_STRIDE: 4,
      SPLITS,
      KEY_LOADS: Math.ceil((POSITIONS * octets) / THREADS),
      QUERY_CHUNKS: Math.ceil(octets / 8),
      SCALE: { f32: softmaxScale },
    },
    label,
  );
  const buffers = { batch: step.batch, block_table: step.blockTable, halves: absorbed, cache: cache.buffer, partial };
  return kernel.dispatch(buffers, [SPLITS, shape.nHeads / FRAGMENT, tokens], {}, label);
}
