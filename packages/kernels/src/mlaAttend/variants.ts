/** Whether attention over a short context runs as one dispatch, and how wide its workgroups are. */
import type { GpuContext } from "@shoal/gpu";
import type { KvFormat } from "../kvRow.ts";
import type { MlaShape } from "../mla.ts";
import { sizeClass } from "../rowTeams.ts";
import { type Variant, chooseVariant } from "../variants.ts";
import { CHUNK, FORMAT_BYTES, type WeightFormat, roundUp } from "../weights.ts";

/** Positions that a token attends to at most, and of them those of its own step. */
export const ATTEND_POSITIONS = 512;
export const ATTEND_OWN_ROWS = 4;

export interface AttendShape {
  readonly shape: MlaShape;
  readonly kvFormat: KvFormat;
  /** Of kv_b_proj. */
  readonly format: WeightFormat;
}

export interface AttendVariant extends Variant {
  /** Absent: not in one dispatch, but as kvWrite, qAbsorb, mlaAttention and mlaOutput have it. */
  readonly workgroup?: number;
}

/** Vectors of a row that a lane of 32 loads of DeepSeek's width at once, and positions: what hides a load's time. */
const KEYS_AHEAD = 5;
const VALUES_AHEAD = 8;

/** Storage buffers of the shader. */
const BINDINGS = 10;

const APART: AttendVariant = { name: "apart", constants: {} };

function together(workgroup: number, { shape, kvFormat }: AttendShape): AttendVariant {
  const { kvLoraRank, qkRopeHeadDim } = shape;
  const chunkLanes = powerOfTwo(kvLoraRank / CHUNK);
  const vectorLanes = powerOfTwo(kvLoraRank / 4);
  const width = kvLoraRank + qkRopeHeadDim;
  const bytes =
    workgroup * 64 +
    roundUp(width, 4 * 32 * KEYS_AHEAD) * 4 +
    ATTEND_OWN_ROWS * roundUp(width, 8) * (kvFormat === "f16" ? 2 : 4) +
    ATTEND_POSITIONS * 8 +
    workgroup;
  return {
    name: `together${workgroup}`,
    constants: {},
    workgroup,
    supported: ({ dialect, limits }) =>
      kvFormat !== "fp8" &&
      kvLoraRank % CHUNK === 0 &&
      qkRopeHeadDim % 4 === 0 &&
      dialect.subgroups !== "none" &&
      dialect.subgroupSize >= 4 &&
      workgroup >= Math.max(chunkLanes, vectorLanes, qkRopeHeadDim / 4) &&
      limits.maxComputeInvocationsPerWorkgroup >= workgroup &&
      limits.maxComputeWorkgroupSizeX >= workgroup &&
      limits.maxComputeWorkgroupStorageSize >= bytes &&
      limits.maxStorageBuffersPerShaderStage >= BINDINGS,
  };
}

/** The best guess for the device first. Software adapters have dispatches that cost nothing, and few threads to wait together. */
export function attendVariants(gpu: GpuContext, shape: AttendShape): readonly AttendVariant[] {
  const all = [together(512, shape), together(256, shape)];
  return gpu.adapter.isSoftware ? [APART, ...all] : [...all, APART];
}

/** @throws RangeError if one is asked for that the device cannot run */
export function attendVariant(gpu: GpuContext, shape: AttendShape, asked?: string): AttendVariant {
  return chooseVariant(gpu, `mlaAttend/${sizeClass(shape.shape.nHeads)}`, attendVariants(gpu, shape), asked);
}

/** Constants of a variant's workgroup for the shape (shaders/mla/attend.wgsl). */
export function attendConstants(gpu: GpuContext, workgroup: number, { shape, format }: AttendShape) {
  const { kvLoraRank, qkNopeHeadDim, qkRopeHeadDim } = shape;
  const lanes = gpu.dialect.subgroupSize;
  const chunks = kvLoraRank / CHUNK;
  const chunkLanes = powerOfTwo(chunks);
  const words = FORMAT_BYTES[format];
  return {
    WORKGROUP: workgroup,
    LANES: lanes,
    KEYS_AHEAD,
    VALUES_AHEAD,
    QUERY_VECTORS: roundUp((kvLoraRank + qkRopeHeadDim) / 4, lanes * KEYS_AHEAD),
    CHUNK_LANES: chunkLanes,
    VECTOR_LANES: powerOfTwo(kvLoraRank / 4),
    WORDS: words,
    ABSORB_LOADS: Math.ceil(qkNopeHeadDim / (workgroup / chunkLanes)) * words,
    VALUE_LOADS: Math.ceil(chunks / 4) * words,
    ROOM: 4 * workgroup,
    MOST_POSITIONS: ATTEND_POSITIONS,
    OWN_ROWS: ATTEND_OWN_ROWS,
  };
}

function powerOfTwo(least: number): number {
  return 2 ** Math.ceil(Math.log2(least));
}
