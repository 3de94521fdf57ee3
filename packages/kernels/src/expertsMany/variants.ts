/** The shaders of the experts' tiled products, and which of them suits a tile. */
import type { GpuContext } from "@shoal/gpu";
import { expertsMatrixTrials, expertsMatrixVariants } from "./matrix.ts";
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

/** All that can multiply tiles of such a height, the one that should be fastest first. */
export function expertsManyVariants(gpu: GpuContext, shape: ExpertsManyShape): readonly ExpertsManyVariant[] {
  const { tileRows } = shape;
  const tiles = [tile(16, tileRows), tile(8, tileRows), tile(4, tileRows)];
  const fast = [STREAM, block(128, tileRows), block(64, tileRows)];
  // Software adapters have caches enough for the plain tiles, and little use for the rest.
  const loops = gpu.adapter.isSoftware ? [...tiles, ...fast] : [...fast, ...tiles];
  const matrices = expertsMatrixVariants(shape);
  const matricesFirst = gpu.dialect.subgroupMatrix !== undefined && tileRows >= MATRIX_ROWS;
  const listed = matricesFirst ? [...matrices, ...loops] : [...loops, ...matrices];
  return listed.filter((variant) => variant.tileRows.includes(tileRows));
}

/** Those that only run where they are asked for by name: a less precise one, and one for tests. */
export function expertsManyTrials(shape: ExpertsManyShape): readonly ExpertsManyVariant[] {
  return expertsMatrixTrials(shape);
}

/** The key of tuning tables. */
export function expertsManyOperation({ gateUp, format, tileRows }: ExpertsManyShape): string {
  return `${gateUp ? "expertsGateUpMany" : "expertsDownMany"}/${format}/${tileRows}`;
}
