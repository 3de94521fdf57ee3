/** Whether the attention of a layer runs as one dispatch, and how its workgroups share rows and columns. */
import type { GpuContext } from "@shoal/gpu";
import { prefersTeams, sizeClass } from "../rowTeams.ts";
import { type Variant, chooseVariant } from "../variants.ts";
import { CHUNK, FORMAT_BYTES } from "../weights.ts";
import type { AttentionSublayerSpec } from "./spec.ts";

export type AttentionSublayerShape = Pick<AttentionSublayerSpec, "shape" | "qLoraRank" | "cache" | "input" | "queryB" | "kvB" | "output">;

export interface AttentionSublayerVariant extends Variant {
  /** Invocations of a workgroup. Absent: not in one dispatch. */
  readonly workgroup?: number;
}

/** Storage buffers of the shader, and with scales. */
const BINDINGS = 11;
const SCALED_BINDINGS = 15;

/** Vectors of 16 bytes that a workgroup has of weights and of what they multiply, all at once: three quarters of the registers that a processor of an H100 has. */
const MOST_VECTORS = 12_288;

/** Rows of the cache that a subgroup loads at once. */
const ROWS_AHEAD = 4;

const APART: AttentionSublayerVariant = { name: "apart", constants: {} };

function whole(workgroup: number, spec: AttentionSublayerShape): AttentionSublayerVariant {
  const { shape, qLoraRank, cache, input, queryB, kvB, output } = spec;
  const matrices = [input, queryB, kvB, output];
  const oneFormat = matrices.every(({ format, parts }) => format === input.format && parts.length === 1);
  const aligned = [shape.kvLoraRank, shape.vHeadDim, qLoraRank].every((columns) => columns > 0 && columns % CHUNK === 0);
  return {
    name: `whole${workgroup}`,
    constants: {},
    workgroup,
    supported: ({ dialect, limits }) => {
      if (!oneFormat || !aligned || cache.format === "fp8" || shape.qkRopeHeadDim % 4 !== 0) return false;
      if (dialect.subgroups === "none" || dialect.subgroupSize < ROWS_AHEAD || workgroup < dialect.subgroupSize) return false;
      const constants = attentionSublayerConstants(dialect.subgroupSize, workgroup, spec);
      return (
        workgroup >= constants.VECTOR_LANES &&
        workgroup * vectorsAtOnce(constants) <= MOST_VECTORS &&
        limits.maxComputeInvocationsPerWorkgroup >= workgroup &&
        limits.maxComputeWorkgroupSizeX >= workgroup &&
        limits.maxComputeWorkgroupStorageSize >= workgroupBytes(dialect.subgroupSize, workgroup, spec) &&
        limits.maxStorageBuffersPerShaderStage >= (input.format === "fp8" ? SCALED_BINDINGS : BINDINGS)
      );
    },
  };
}

/** The best guess for the device first. Software adapters have dispatches that cost nothing, and few threads to wait together. */
export function attentionSublayerVariants(gpu: GpuContext, spec: AttentionSublayerShape): readonly AttentionSublayerVariant[] {
  const all = [512, 256, 1024].map((workgroup) => whole(workgroup, spec));
  return prefersTeams(gpu) ? [...all, APART] : [APART, ...all];
}

/** @throws RangeError if one is asked for that the device cannot run */
export function attentionSublayerVariant(gpu: GpuContext, spec: AttentionSublayerShape, asked?: string): AttentionSublayerVariant {
  const { input, shape } = spec;
  const operation = `attentionSublayer/${input.format}/${sizeClass(shape.nHeads)}x${sizeClass(input.cols)}`;
  return chooseVariant(gpu, operation, attentionSublayerVariants(gpu, spec), asked);
}

interface SharedRows {
  readonly lanes: number;
  readonly loads: number;
  readonly rounds: number;
}

/** Constants of shaders/sublayer/attention.wgsl, on a device with subgroups of `lanes`. */
export function attentionSublayerConstants(lanes: number, workgroup: number, { shape, qLoraRank, input }: AttentionSublayerShape) {
  const { qkNopeHeadDim, qkRopeHeadDim, vHeadDim, kvLoraRank } = shape;
  const shared = (rows: number, columns: number): SharedRows => {
    const chunks = Math.ceil(columns / CHUNK);
    const team = Math.min(lanes, powerOfTwo(chunks));
    return { lanes: team, loads: Math.ceil(chunks / team), rounds: Math.ceil(rows / (workgroup / team)) };
  };
  const projected = shared(qLoraRank + kvLoraRank + qkRopeHeadDim, input.cols);
  const query = shared(qkNopeHeadDim + qkRopeHeadDim, qLoraRank);
  const values = shared(vHeadDim, kvLoraRank);
  const output = shared(input.cols, vHeadDim);
  const vectorLanes = powerOfTwo(kvLoraRank / 4);
  const rowVectors = (kvLoraRank + qkRopeHeadDim) / 4;
  return {
    WORKGROUP: workgroup,
    LANES: lanes,
    WORDS: FORMAT_BYTES[input.format],
    IN_LANES: projected.lanes,
    IN_LOADS: projected.loads,
    IN_ROUNDS: projected.rounds,
    Q_LANES: query.lanes,
    Q_LOADS: query.loads,
    Q_ROUNDS: query.rounds,
    V_LANES: values.lanes,
    V_LOADS: values.loads,
    V_ROUNDS: values.rounds,
    OUT_LANES: output.lanes,
    OUT_LOADS: output.loads,
    OUT_ROUNDS: output.rounds,
    VECTOR_LANES: vectorLanes,
    ABSORB_ROUNDS: Math.ceil(qkNopeHeadDim / (workgroup / vectorLanes)),
    ROW_LOADS: Math.ceil(rowVectors / lanes),
    LATENT_LOADS: Math.ceil(kvLoraRank / 4 / lanes),
    ROWS_AHEAD,
  };
}

type Constants = ReturnType<typeof attentionSublayerConstants>;

/** An invocation's share of MOST_VECTORS. */
function vectorsAtOnce(constants: Constants): number {
  const { WORDS, IN_LOADS, IN_ROUNDS, Q_LOADS, Q_ROUNDS, V_LOADS, V_ROUNDS, OUT_LOADS, OUT_ROUNDS, ABSORB_ROUNDS } = constants;
  const chunks = IN_LOADS * IN_ROUNDS + Q_LOADS * Q_ROUNDS + V_LOADS * V_ROUNDS + OUT_LOADS * OUT_ROUNDS;
  return WORDS * (chunks + ABSORB_ROUNDS / 4) + 4 * IN_LOADS;
}

/** What the shader shares in a workgroup. */
function workgroupBytes(lanes: number, workgroup: number, spec: AttentionSublayerShape): number {
  const { shape, qLoraRank } = spec;
  const { qkNopeHeadDim, qkRopeHeadDim, vHeadDim, kvLoraRank } = shape;
  const { ROW_LOADS } = attentionSublayerConstants(lanes, workgroup, spec);
  const members = workgroup / lanes;
  const floats = qLoraRank + 2 * (kvLoraRank + qkRopeHeadDim) + qkNopeHeadDim + qkRopeHeadDim + vHeadDim + 2 * members;
  return floats * 4 + (Math.max(workgroup, (members * kvLoraRank) / 4) + ROW_LOADS * lanes) * 16 + 4;
}

function powerOfTwo(least: number): number {
  return 2 ** Math.ceil(Math.log2(least));
}
