/** The shaders that multiply with many vectors, and which of them suits a shape. */
import type { GpuContext } from "@shoal/gpu";
import { matmulMatrixTrials, matmulMatrixVariants } from "./matrix.ts";
import {
  type RowTeams,
  SMALLEST_TEAM,
  WHOLE_ROWS_BATCH,
  batchTeamConstants,
  offersWholeRowsBatch,
  onDevice,
  sizeClass,
} from "../rowTeams.ts";
import { streamConstants } from "../stream.ts";
import type { MatmulShape, MatmulVariant } from "./variant.ts";

/** Workgroups of a blocked product that a large GPU wants at least; below, smaller blocks do better. */
const WANTED_BLOCKS = 192;
/** Tokens from which subgroup matrices are faster than loops, splitting x included. */
const MATRIX_TOKENS = 48;
/** Tokens up to which a weight that is decoded once for some of them does best, and no workgroup memory for it. */
const MOST_STREAMED = 32;
/** Of BF16 matrices: loops are as fast for more tokens. */
const MOST_BF16_STRIP_TOKENS = 64;
const LEAST_BF16_STRIP_ROWS = 1024;
/** With fewer than so many of the smallest blocks, streaming does better. */
const FEW_BLOCKS = 64;

/** Runs anywhere: 64 rows and 32 or 64 tokens in 12 or 16 KiB of workgroup memory. */
function tile(tokensPerThread: number): MatmulVariant {
  return {
    name: `tile-64x${8 * tokensPerThread}`,
    shader: "matmul/matmul.wgsl",
    tileRows: 64,
    tileTokens: 8 * tokensPerThread,
    constants: { TOKENS_PER_THREAD: tokensPerThread },
  };
}

/** A blocked product, the next block loaded while one is multiplied. */
function block(rows: number, tokens: number, threadTokens: number): MatmulVariant {
  return {
    name: `block-${rows}x${tokens}`,
    shader: "matmul/block.wgsl",
    tileRows: rows,
    tileTokens: tokens,
    constants: { BLOCK_ROWS: rows, BLOCK_TOKENS: tokens, THREAD_TOKENS: threadTokens },
    supported: ({ limits }) =>
      128 * (rows + tokens) <= limits.maxComputeWorkgroupStorageSize &&
      (rows / 8) * (tokens / threadTokens) <= limits.maxComputeInvocationsPerWorkgroup,
  };
}

/** Four rows a workgroup, each weight decoded once for 8 tokens; no workgroup memory for them. */
const STREAM: MatmulVariant = {
  name: "stream-4x8",
  shader: "matmul/stream.wgsl",
  tileRows: 4,
  tileTokens: 8,
  tokensFirst: true,
  constants: {},
  deviceConstants: (gpu) => streamConstants(gpu),
};

/** Teams of 32 lanes with so many rows each, the columns in so many parts: each weight is decoded once for so many tokens. */
function rows(
  weightRows: number,
  tokens: number,
  teams: number,
  split: number,
  unroll: number,
  columns: RowTeams["columns"] = 4,
): MatmulVariant {
  return {
    name: `rows-${weightRows}x${tokens}-t${teams}-s${split}-u${unroll}-c${columns}`,
    shader: "matmul/rows.wgsl",
    tileRows: weightRows * teams,
    tileTokens: tokens,
    tokensFirst: true,
    constants: { TOKENS: tokens },
    deviceConstants: (gpu, stored) =>
      batchTeamConstants(gpu, onDevice(gpu, { rows: weightRows, lanes: 32, split, unroll, teams, columns }), tokens, stored),
    supported: ({ dialect, limits }) =>
      dialect.subgroups !== "none" &&
      dialect.subgroupSize >= SMALLEST_TEAM &&
      limits.maxComputeInvocationsPerWorkgroup >= 32 * teams * split,
  };
}

/** An invocation has whole rows: for software adapters. */
const WHOLE: MatmulVariant = {
  name: `whole-${WHOLE_ROWS_BATCH.rows}x${WHOLE_ROWS_BATCH.tokens}`,
  shader: "matmul/rows.wgsl",
  tileRows: WHOLE_ROWS_BATCH.rows * WHOLE_ROWS_BATCH.teams,
  tileTokens: WHOLE_ROWS_BATCH.tokens,
  tokensFirst: true,
  constants: { TOKENS: WHOLE_ROWS_BATCH.tokens },
  deviceConstants: (gpu, stored) => batchTeamConstants(gpu, WHOLE_ROWS_BATCH, WHOLE_ROWS_BATCH.tokens, stored),
  supported: offersWholeRowsBatch,
};

/** For matrices of few rows: the columns in four parts. */
const FEW_ROWS = rows(4, 4, 1, 4, 2);
const ROWS = [rows(4, 8, 4, 1, 2), FEW_ROWS, rows(8, 8, 4, 1, 1, 8), rows(8, 4, 4, 1, 2), rows(2, 8, 1, 8, 2)] as const;

const TILES = [tile(4), tile(8)] as const;
/** From large to small. */
const BLOCKS = [block(128, 128, 8), block(128, 64, 8), block(64, 64, 4), block(128, 32, 4), block(64, 32, 4), block(128, 16, 4)] as const;

/**
 * All that can multiply with such a matrix, the one that should be fastest first. Any of them is right for any number of rows and tokens.
 */
export function matmulVariants(gpu: GpuContext, shape: MatmulShape): readonly MatmulVariant[] {
  const { tokens } = shape;
  const tiles = tokens <= 32 ? TILES : TILES.toReversed();
  const all: readonly MatmulVariant[] = [...tiles, ...BLOCKS, STREAM, ...ROWS, WHOLE];
  const first = gpu.adapter.isSoftware ? onSoftware(gpu, tiles) : fastest(gpu, shape);
  const ordered = first ? [first, ...all.filter((variant) => variant !== first)] : all;
  const matrices = matmulMatrixVariants(gpu, shape);
  return gpu.dialect.subgroupMatrix && prefersMatrices(shape, matrices) ? [...matrices, ...ordered] : [...ordered, ...matrices];
}

/** Strips where reading weights takes longest, tiles where arithmetic does; of BF16, which has no tiles, strips of large matrices: a router's is small, and chooses by sums that had better not be rounded. */
function prefersMatrices({ format, rows, tokens }: MatmulShape, [first]: readonly MatmulVariant[]): boolean {
  if (!first || tokens <= STREAM.tileTokens) return false;
  if (format === "bf16") return tokens <= MOST_BF16_STRIP_TOKENS && rows >= LEAST_BF16_STRIP_ROWS;
  return tokens >= MATRIX_TOKENS || (tokens <= MOST_STREAMED && first.halves === "blocks");
}

/** Those that only run where they are asked for by name: less precise ones, and one for tests. */
export function matmulTrials(gpu: GpuContext, shape: MatmulShape): readonly MatmulVariant[] {
  return matmulMatrixTrials(gpu, shape);
}

/** Where a barrier costs more than the products of a tile, whole rows; where those do not compile, the plain tiles: caches are large enough for them. */
function onSoftware(gpu: GpuContext, [smallest]: readonly MatmulVariant[]): MatmulVariant | undefined {
  return offersWholeRowsBatch(gpu) ? WHOLE : smallest;
}

/** What a large GPU should run: the largest blocks of which there are enough, streaming where there are few. */
function fastest(gpu: GpuContext, { format, rows, tokens }: MatmulShape): MatmulVariant | undefined {
  if (tokens <= MOST_STREAMED && rows < 1024) return FEW_ROWS;
  if (tokens <= MOST_STREAMED && rows > 2048 && format === "fp8") return ROWS[0];
  if (tokens <= STREAM.tileTokens) return STREAM;
  const fitting = BLOCKS.filter(
    (variant) => (variant.supported?.(gpu) ?? true) && (variant.tileTokens <= 16 || variant.tileTokens < 2 * tokens),
  );
  const workgroups = ({ tileRows, tileTokens }: MatmulVariant): number => Math.ceil(rows / tileRows) * Math.ceil(tokens / tileTokens);
  const enough = fitting.find((variant) => workgroups(variant) >= WANTED_BLOCKS);
  if (enough) return enough;
  const most = fitting.toSorted((a, b) => workgroups(b) - workgroups(a))[0];
  return most && tokens > 64 && workgroups(most) >= FEW_BLOCKS ? most : STREAM;
}

/** The key of tuning tables: what is best depends on how many workgroups there are. More than 512 tokens are as many. */
export function matmulOperation({ format, rows, tokens }: MatmulShape): string {
  return `matmul/${format}/${sizeClass(rows)}x${Math.min(512, Math.max(STREAM.tileTokens, sizeClass(tokens)))}`;
}
