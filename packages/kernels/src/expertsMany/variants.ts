/** The shaders of the experts' tiled products, and which of them suits a tile. */
import type { GpuContext } from "@shoal/gpu";
import { expertsMatrixTrials, expertsMatrixVariants } from "./matrix.ts";
import { type RowTeams, SMALLEST_TEAM, WHOLE_ROWS_BATCH, batchTeamConstants, offersWholeRowsBatch, prefersTeams } from "../rowTeams.ts";
import { streamConstants } from "../stream.ts";
import type { ExpertsManyShape, ExpertsManyVariant } from "./variant.ts";

/** Heights of tiles from which subgroup matrices are faster than loops. */
const MATRIX_ROWS = 16;
/** Rows of weights that an invocation of many.wgsl multiplies with. */
const ROWS_PER_INVOCATION = 8;

/** Tiles of 4 to 64 rows; needs more workgroup memory the wider it is, the narrowest runs anywhere. */
function tile(threads: number, tileRows: number): ExpertsManyVariant {
  const weightRows = threads * ROWS_PER_INVOCATION;
  const bytes = (weightRows + tileRows) * 9 * 16 + tileRows * 4;
  return {
    name: `tile-${weightRows}`,
    shader: "experts/many.wgsl",
    weightRows,
    tileRows: [4, 8, 16, 32, 64],
    constants: { THREADS_X: threads },
    supported: (gpu) => bytes <= gpu.limits.maxComputeWorkgroupStorageSize,
  };
}

/** A blocked product, the next block loaded while one is multiplied. */
function block(rows: number, tileRows: number): ExpertsManyVariant {
  // More rows of the tile for an invocation want fewer reads of workgroup memory; fewer leave more invocations to a small tile.
  const threadTokens = tileRows <= 32 ? 4 : 8;
  return {
    name: `block-${rows}`,
    shader: "experts/block.wgsl",
    weightRows: rows,
    tileRows: rows === 64 ? [16, 32] : [16, 32, 64, 128],
    constants: { BLOCK_ROWS: rows, BLOCK_TOKENS: tileRows, THREAD_TOKENS: threadTokens },
    supported: ({ limits }) =>
      128 * (rows + tileRows) <= limits.maxComputeWorkgroupStorageSize &&
      (rows / 8) * (tileRows / threadTokens) <= limits.maxComputeInvocationsPerWorkgroup,
  };
}

/** Four rows of weights a workgroup, each weight decoded once for all rows of the tile; only rows that there are cost arithmetic. */
const STREAM: ExpertsManyVariant = {
  name: "stream-4",
  shader: "experts/stream.wgsl",
  weightRows: 4,
  tileRows: [4, 8],
  constants: {},
  deviceConstants: (gpu) => streamConstants(gpu),
};

/**
 * Teams of a subgroup each, with so many rows of weights (with gate-up half of them gate's): they multiply each weight with so many rows of the tile at once.
 */
function rows(weightRows: number, tokens: number, teams: number, unroll: number, columns: RowTeams["columns"] = 4): ExpertsManyVariant {
  return {
    name: `rows-${weightRows}x${tokens}-t${teams}-u${unroll}-c${columns}`,
    shader: "experts/rows.wgsl",
    weightRows: weightRows * teams,
    tileRows: [4, 8, 16, 32],
    constants: { TOKENS: tokens, LOADS: weightRows * unroll },
    deviceConstants: (gpu, stored) => {
      const lanes = Math.min(32, gpu.dialect.subgroupSize);
      return batchTeamConstants(gpu, { rows: weightRows, lanes, split: 1, unroll, teams, columns }, tokens, stored);
    },
    supported: ({ dialect, limits }) =>
      dialect.subgroups !== "none" && dialect.subgroupSize >= SMALLEST_TEAM && limits.maxComputeInvocationsPerWorkgroup >= 32 * teams,
  };
}

/** An invocation has whole rows: for software adapters. */
const WHOLE: ExpertsManyVariant = {
  name: `whole-${WHOLE_ROWS_BATCH.rows}x${WHOLE_ROWS_BATCH.tokens}`,
  shader: "experts/rows.wgsl",
  weightRows: WHOLE_ROWS_BATCH.rows * WHOLE_ROWS_BATCH.teams,
  tileRows: [4, 8, 16, 32],
  constants: { TOKENS: WHOLE_ROWS_BATCH.tokens, LOADS: WHOLE_ROWS_BATCH.rows },
  deviceConstants: (gpu, stored) => batchTeamConstants(gpu, WHOLE_ROWS_BATCH, WHOLE_ROWS_BATCH.tokens, stored),
  supported: offersWholeRowsBatch,
};

const ROWS = [rows(8, 4, 4, 2, 8), rows(4, 4, 4, 4), rows(8, 4, 4, 2), rows(8, 2, 4, 2, 8)] as const;

/** All that can multiply tiles of such a height, the one that should be fastest first. */
export function expertsManyVariants(gpu: GpuContext, shape: ExpertsManyShape): readonly ExpertsManyVariant[] {
  const { tileRows } = shape;
  const tiles = [tile(16, tileRows), tile(8, tileRows), tile(4, tileRows)];
  const fast = [
    ...(tileRows <= 16 && prefersTeams(gpu) ? [...ROWS, STREAM] : [STREAM, ...ROWS]),
    block(128, tileRows),
    block(64, tileRows),
  ];
  // Software adapters have caches enough for the plain tiles, where whole rows do not compile, and little use for the rest.
  const loops = gpu.adapter.isSoftware ? [WHOLE, ...tiles, ...fast] : [...fast, WHOLE, ...tiles];
  const matrices = expertsMatrixVariants(gpu, shape);
  const matricesFirst = gpu.dialect.subgroupMatrix !== undefined && tileRows >= MATRIX_ROWS;
  const listed = matricesFirst ? [...matrices, ...loops] : [...loops, ...matrices];
  return listed.filter((variant) => variant.tileRows.includes(tileRows));
}

/** Those that only run where they are asked for by name: a less precise one, and one for tests. */
export function expertsManyTrials(gpu: GpuContext, shape: ExpertsManyShape): readonly ExpertsManyVariant[] {
  return expertsMatrixTrials(gpu, shape).filter((variant) => variant.tileRows.includes(shape.tileRows));
}

/** The key of tuning tables. Strips are others where all tokens take all experts; loops are not. */
export function expertsManyOperation({ gateUp, format, tileRows, fixed = false }: ExpertsManyShape): string {
  const full = fixed && tileRows >= MATRIX_ROWS ? "/fixed" : "";
  return `${gateUp ? "expertsGateUpMany" : "expertsDownMany"}/${format}/${tileRows}${full}`;
}
