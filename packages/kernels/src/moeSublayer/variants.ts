/** Whether the MLP of a MoE layer runs as one dispatch, and in workgroups of what size. */
import type { GpuContext } from "@shoal/gpu";
import type { ExpertGroup } from "../experts.ts";
import type { RouterSpec } from "../router/kernel.ts";
import { SMALLEST_TEAM, prefersTeams, sizeClass, withFirst } from "../rowTeams.ts";
import { type Variant, chooseVariant } from "../variants.ts";
import { CHUNK, FORMAT_BYTES, type WeightFormat, type WeightMatrix, matrixBytes, roundUp } from "../weights.ts";

/** What decides. */
export interface MoeSublayerShape {
  /** The gate's weights [nRoutedExperts, hidden]. */
  readonly gate: WeightMatrix;
  readonly spec: RouterSpec;
  /** The routed experts, then the shared ones. */
  readonly group: ExpertGroup;
  readonly bias?: GPUBuffer | undefined;
}

export interface MoeSublayerVariant extends Variant {
  /** Absent: not in one dispatch, but as gateFew and expertsFew have it. */
  readonly workgroup?: number;
}

/** How teams share a matrix's rows (shaders/sublayer/moe.wgsl). */
export interface Sharing {
  /** Invocations that share a row: a power of two. */
  readonly lanes: number;
  /** Chunks of a row. */
  readonly chunks: number;
  /** Those of a lane. */
  readonly each: number;
  /** Rows that a team has under way at once: a power of two. */
  readonly rows: number;
}

export interface MoeTeams {
  readonly gate: Sharing;
  /** `rows` are as many of gate and as many of up. */
  readonly gateUp: Sharing;
  readonly down: Sharing;
}

/** Storage buffers of the shader, but for scales and bias. */
const BINDINGS = 8;
/** Chunks that a lane keeps in registers, at most. */
const MOST_CHUNKS = 8;
/** Loads of four words that all invocations of a workgroup have under way at once: what registers there are for them. */
const LOADS = 4096;
/** Those of an invocation, at most. */
const MOST_LOADS = 16;
/** There nothing is under way, and what is unrolled takes seconds to compile. */
const MOST_LOADS_IN_SOFTWARE = 4;
/** Each workgroup reads the whole gate and all of an expert, through one processor: above, workgroups that share the rows do better. */
const MOST_BYTES = 2 ** 18;
/** Of workgroup memory for each expert: its logit, and what lib/route.wgsl keeps. */
const EXPERT_BYTES = 64;
/** A chunk's in workgroup memory. */
const CHUNK_BYTES = (CHUNK + 1) * 4;

const APART: MoeSublayerVariant = { name: "apart", constants: {} };
const SIZES = [256, 512, 1024] as const;
const FIRST = "whole512";

/** The best guess for the device first. */
export function moeSublayerVariants(gpu: GpuContext, shape: MoeSublayerShape): readonly MoeSublayerVariant[] {
  const { gate, group, bias } = shape;
  const bindings = BINDINGS + (group.format === "fp8" ? 2 : 0) + (bias ? 1 : 0);
  const onePart = gate.parts.length === 1 && group.gateUp.length === 1 && group.down.length === 1;
  const fits = onePart && gate.format !== "fp8" && gpu.limits.maxStorageBuffersPerShaderStage >= bindings;
  if (!fits) return [APART];
  const whole = SIZES.map((workgroup): MoeSublayerVariant => ({
    name: `whole${workgroup}`,
    constants: {},
    workgroup,
    supported: (device) => canRunWhole(device, shape, workgroup),
  }));
  return prefersTeams(gpu) && workgroupReads(shape) <= MOST_BYTES ? [...withFirst(whole, FIRST), APART] : [APART, ...whole];
}

/** @throws RangeError if one is asked for that the device cannot run */
export function moeSublayerVariant(gpu: GpuContext, shape: MoeSublayerShape, asked?: string): MoeSublayerVariant {
  const { gate, spec, group } = shape;
  const slots = spec.nActivatedExperts + spec.sharedSlots;
  const sizes = [group.width, group.hidden, gate.rows].map(sizeClass).join("x");
  return chooseVariant(gpu, `moeSublayer/${group.format}/${slots}x${sizes}`, moeSublayerVariants(gpu, shape), asked);
}

export function moeTeams(gpu: GpuContext, { gate, group }: Pick<MoeSublayerShape, "gate" | "group">, workgroup: number): MoeTeams {
  const { hidden, width } = group;
  const most = Math.min(gpu.adapter.isSoftware ? MOST_LOADS_IN_SOFTWARE : MOST_LOADS, LOADS / workgroup);
  const share = (rows: number, columns: number, format: WeightFormat, matrices = 1): Sharing => {
    const chunks = Math.ceil(columns / CHUNK);
    const lanes = Math.min(sizeClass(chunks), gpu.dialect.subgroupSize, workgroup);
    const each = Math.ceil(chunks / lanes);
    const loads = matrices * each * vectorsOf(format);
    const room = Math.floor(most / loads);
    const wanted = sizeClass(Math.ceil((rows * lanes) / workgroup));
    return { lanes, chunks, each, rows: Math.min(wanted, room > 1 ? 2 ** Math.floor(Math.log2(room)) : 1) };
  };
  return {
    gate: share(gate.rows, hidden, gate.format),
    gateUp: share(width, hidden, group.format, 2),
    down: share(hidden, width, group.format),
  };
}

/** Loads of four words that a chunk takes. */
export function vectorsOf(format: WeightFormat): number {
  return (CHUNK * FORMAT_BYTES[format]) / 16;
}

function canRunWhole(gpu: GpuContext, shape: MoeSublayerShape, workgroup: number): boolean {
  const { dialect, limits } = gpu;
  if (
    dialect.subgroups === "none" ||
    dialect.subgroupSize < SMALLEST_TEAM ||
    workgroup > Math.min(limits.maxComputeInvocationsPerWorkgroup, limits.maxComputeWorkgroupSizeX)
  )
    return false;
  const { gateUp, down } = moeTeams(gpu, shape, workgroup);
  const chunks = gateUp.lanes * gateUp.each + down.lanes * down.each;
  const memory = chunks * CHUNK_BYTES + shape.spec.nRoutedExperts * EXPERT_BYTES + workgroup * 4;
  return Math.max(gateUp.each, down.each) <= MOST_CHUNKS && memory <= limits.maxComputeWorkgroupStorageSize;
}

/** Bytes of weights that each workgroup reads. */
function workgroupReads({ gate, group: { format, hidden, width } }: MoeSublayerShape): number {
  const expert = 2 * width * roundUp(hidden, CHUNK) + hidden * roundUp(width, CHUNK);
  return matrixBytes(gate) + expert * FORMAT_BYTES[format];
}
