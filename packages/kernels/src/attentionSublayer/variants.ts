/** Whether the attention of a layer runs as one dispatch, and how its workgroups share rows and columns. */
import type { GpuContext } from "@shoal/gpu";
import { prefersTeams, sizeClass } from "../rowTeams.ts";
import { type Variant, chooseVariant } from "../variants.ts";
import { CHUNK, FORMAT_BYTES, roundUp } from "../weights.ts";
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
    const team = Math.min(lanes, sizeClass(chunks));
    return { lanes: team, loads: Math.ceil(chunks / team), rounds: Math.ceil(rows / (workgroup / team)) };
  };
  const projected = shared(qLoraRank + kvLoraRank + qkRopeHeadDim, input.cols);
  const query = shared(qkNopeHeadDim + qkRopeHeadDim, qLoraRank);
  const values = shared(vHeadDim, kvLoraRank);
  const output = shared(input.cols, vHeadDim);
  const vectorLanes = sizeClass(kvLoraRank / 4);
  const rowVectors = (kvLoraRank + qkRopeHeadDim) / 4;
  return {
    WORKGROUP: workgroup,
    LANES: lanes,
    WORDS: FORMAT_BYTES[input.format],
    INPUT_LANES: projected.lanes,
    INPUT_LOADS: projected.loads,
    INPUT_ROUNDS: projected.rounds,
    QUERY_LANES: query.lanes,
    QUERY_LOADS: query.loads,
    QUERY_ROUNDS: query.rounds,
    VALUE_LANES: values.lanes,
    VALUE_LOADS: values.loads,
    VALUE_ROUNDS: values.rounds,
    OUTPUT_LANES: output.lanes,
    OUTPUT_LOADS: output.loads,
    OUTPUT_ROUNDS: output.rounds,
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
  const {
    WORDS,
    INPUT_LOADS,
    INPUT_ROUNDS,
    QUERY_LOADS,
    QUERY_ROUNDS,
    VALUE_LOADS,
    VALUE_ROUNDS,
    OUTPUT_LOADS,
    OUTPUT_ROUNDS,
    ABSORB_ROUNDS,
  } = constants;
  const chunks = INPUT_LOADS * INPUT_ROUNDS + QUERY_LOADS * QUERY_ROUNDS + VALUE_LOADS * VALUE_ROUNDS + OUTPUT_LOADS * OUTPUT_ROUNDS;
  return WORDS * (chunks + ABSORB_ROUNDS / 4) + 4 * INPUT_LOADS;
}

/** What the shader shares in a workgroup: WebGPU counts each variable in whole units of 16 bytes. */
function workgroupBytes(lanes: number, workgroup: number, { shape, qLoraRank, input }: AttentionSublayerShape): number {
  const { qkNopeHeadDim, qkRopeHeadDim, vHeadDim, kvLoraRank } = shape;
  const width = kvLoraRank + qkRopeHeadDim;
  const members = workgroup / lanes;
  const queryVectors = Math.ceil(width / 4 / lanes) * lanes;
  const sums = Math.max(workgroup, (members * kvLoraRank) / 4);
  const floats = [
    qLoraRank + width,
    qkNopeHeadDim + qkRopeHeadDim,
    width,
    sums * 4,
    queryVectors * 4,
    members,
    members,
    vHeadDim,
    input.stride,
    1,
  ];
  return floats.reduce((bytes, count) => bytes + roundUp(count * 4, 16), 0);
}
