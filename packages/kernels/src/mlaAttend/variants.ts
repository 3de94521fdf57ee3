/** Whether attention over a short context runs as one dispatch, how wide its workgroups are, and for how many tokens they decode their weights once. */
import type { GpuContext } from "@shoal/gpu";
import { kvRowElements } from "../kvRow.ts";
import type { MlaShape } from "../mla.ts";
import { sizeClass } from "../rowTeams.ts";
import { matrices } from "./matrices.ts";
import { ATTEND_OWN_ROWS, ATTEND_POSITIONS, type AttendShape, type AttendTeams, type AttendVariant } from "./variant.ts";
import { chooseVariant } from "../variants.ts";
import { CHUNK, FORMAT_BYTES, SCALE_BLOCK } from "../weights.ts";

/** Loads that hide each other's time: of a subgroup's lane in rows of the cache, and of an invocation in weights, in words and in vectors of 16 bytes. */
const AHEAD = { rows: 2, rowLoads: 20, absorbWords: 8, valueVectors: 4 };
/** With subgroups so narrow that a lane has much of a row anyway. Compilers of software adapters take seconds for what is unrolled. */
const NARROW_AHEAD = { rows: 2, rowLoads: 20, absorbWords: 8, valueVectors: 4 };
const NARROW = 16;

/** Of memory that comes when a word of it does: a sector of an NVIDIA GPU's caches. */
const TOUCHED_BYTES = 32;

/** Storage buffers of the shader. */
const BINDINGS = 10;

const APART: AttendVariant = { name: "apart", constants: {} };

function together(workgroup: number, tokens: AttendTeams["tokens"], key: AttendShape): AttendVariant {
  const { kvLoraRank, qkRopeHeadDim } = key.shape;
  const teams = { workgroup, tokens };
  return {
    name: `together${workgroup}${tokens > 1 ? `x${tokens}` : ""}`,
    constants: {},
    teams,
    supported: ({ dialect, limits }) =>
      key.kvFormat !== "fp8" &&
      kvLoraRank % CHUNK === 0 &&
      qkRopeHeadDim % 4 === 0 &&
      dialect.subgroups !== "none" &&
      dialect.subgroupSize >= 4 &&
      workgroup >= powerOfTwo(kvLoraRank / 4) &&
      workgroup / dialect.subgroupSize / tokens >= ATTEND_OWN_ROWS &&
      limits.maxComputeInvocationsPerWorkgroup >= workgroup &&
      limits.maxComputeWorkgroupSizeX >= workgroup &&
      limits.maxComputeWorkgroupStorageSize >= workgroupBytes(attendConstants(dialect.subgroupSize, teams, key), key.shape) &&
      limits.maxStorageBuffersPerShaderStage >= BINDINGS,
  };
}

/**
 * Workgroups that a large GPU runs at once, about. Where there are more, weights decoded once for several tokens pay: 32 tokens of 16 heads after 128 positions took an H100
 * (132 processors) 48 us one at a time, 38 in twos and 30 in fours.
 */
const AT_ONCE = 144;

/** From so many tokens on heads had better share the cache's rows than tokens the weights: 32 of 16 heads after 224 positions, within the 16B model, took an H100 10 us a layer less so. */
const MATRIX_TOKENS = 16;

/** The best guess for the device first. Software adapters have dispatches that cost nothing, and few threads to wait together. */
export function attendVariants(gpu: GpuContext, key: AttendShape): readonly AttendVariant[] {
  const workgroups = key.shape.nHeads * key.tokens;
  const shared = workgroups <= AT_ONCE ? 1 : workgroups <= 2 * AT_ONCE ? 2 : 4;
  const wide = ([1, 2, 4] as const).filter((tokens) => tokens < 2 * key.tokens).map((tokens) => together(512, tokens, key));
  const rank = ({ teams }: AttendVariant): number => Math.abs(Math.log2((teams?.tokens ?? 1) / shared));
  const all = [...wide.toSorted((a, b) => rank(a) - rank(b)), together(256, 1, key)];
  if (key.hasRoom && shared === 4 && key.tokens >= MATRIX_TOKENS) all.unshift(matrices("hardware", key));
  return gpu.adapter.isSoftware ? [APART, ...all] : [...all, APART];
}

/** To be had by name only. */
export function attendTrials(key: AttendShape): readonly AttendVariant[] {
  return key.hasRoom ? [matrices("hardware", key), matrices("emulated", key)] : [];
}

/** @throws RangeError if one is asked for that the device cannot run */
export function attendVariant(gpu: GpuContext, key: AttendShape, asked?: string): AttendVariant {
  const operation = `mlaAttend/${sizeClass(key.shape.nHeads)}${key.tokens > 1 ? "/several" : ""}`;
  const variants = attendVariants(gpu, key);
  return chooseVariant(gpu, operation, asked === undefined ? variants : [...variants, ...attendTrials(key)], asked);
}

/** Constants of a variant for the shape (shaders/mla/attend.wgsl), on a device with subgroups of `lanes`. */
export function attendConstants(
  lanes: number,
  { workgroup, tokens }: AttendTeams,
  { shape, format }: Pick<AttendShape, "shape" | "format">,
) {
  const { kvLoraRank, qkNopeHeadDim, vHeadDim } = shape;
  const ahead = lanes > NARROW ? AHEAD : NARROW_AHEAD;
  const chunks = kvLoraRank / CHUNK;
  const words = FORMAT_BYTES[format];
  const rowLoads = Math.ceil(kvRowElements(shape) / 4 / lanes);
  const latentVectors = kvLoraRank / 4;
  const vectorLanes = powerOfTwo(latentVectors);
  const slices = workgroup / vectorLanes;
  const valueLanes = Math.min(lanes, powerOfTwo(chunks));
  const valueLoads = Math.ceil(chunks / valueLanes) * words;
  const members = workgroup / lanes / tokens;
  const sliceRoom = tokens * slices * vectorLanes;
  const seats = Math.min(members, 2 ** Math.floor(Math.log2(Math.max(sliceRoom, Math.min(4 * workgroup, 2048)) / tokens / latentVectors)));
  // Heads whose rows begin anywhere in a block of scales have one more.
  const isAligned = qkNopeHeadDim % SCALE_BLOCK === 0 && vHeadDim % SCALE_BLOCK === 0;
  const scaleBlocks = (rows: number): number => Math.ceil(rows / SCALE_BLOCK) + (isAligned ? 0 : 1);
  const ABSORB_LOADS = Math.min(Math.ceil(qkNopeHeadDim / slices), ahead.absorbWords / words);
  const VALUE_ROWS = Math.max(1, Math.min(Math.ceil(vHeadDim / (workgroup / valueLanes)), Math.floor(ahead.valueVectors / valueLoads)));
  // Nothing, if all rows are loaded at once anyway.
  const touches = (rows: number, atOnce: number): number =>
    atOnce >= rows ? 0 : Math.ceil((rows * kvLoraRank * words) / TOUCHED_BYTES / workgroup);
  return {
    WORKGROUP: workgroup,
    TOKENS: tokens,
    LANES: lanes,
    QUERY_VECTORS: rowLoads * lanes,
    ROW_LOADS: rowLoads,
    LATENT_LOADS: Math.ceil(latentVectors / lanes),
    ROWS_AHEAD: Math.max(1, Math.min(ahead.rows, Math.floor(ahead.rowLoads / rowLoads))),
    ROW_SETS: Math.ceil((ATTEND_POSITIONS * tokens) / workgroup),
    VECTOR_LANES: vectorLanes,
    WORDS: words,
    ABSORB_LOADS,
    ABSORB_BLOCKS: scaleBlocks(qkNopeHeadDim),
    VALUE_LANES: valueLanes,
    VALUE_CHUNKS: valueLoads / words,
    VALUE_LOADS: valueLoads,
    VALUE_ROWS,
    VALUE_BLOCKS: scaleBlocks(vHeadDim),
    ROOM: Math.max(sliceRoom, tokens * seats * latentVectors),
    ROUNDS: members / seats,
    TOUCH_ABSORB: touches(qkNopeHeadDim, ABSORB_LOADS * slices),
    TOUCH_VALUES: touches(vHeadDim, VALUE_ROWS * (workgroup / valueLanes)),
    MOST_POSITIONS: ATTEND_POSITIONS,
    OWN_ROWS: ATTEND_OWN_ROWS,
  };
}

/** What the shader shares in a workgroup. */
function workgroupBytes(
  { TOKENS, ROOM, QUERY_VECTORS, WORKGROUP, LANES }: ReturnType<typeof attendConstants>,
  { qkNopeHeadDim }: MlaShape,
): number {
  return TOKENS * qkNopeHeadDim * 4 + (ROOM + TOKENS * QUERY_VECTORS) * 16 + (WORKGROUP / LANES) * 8;
}

function powerOfTwo(least: number): number {
  return 2 ** Math.ceil(Math.log2(least));
}
