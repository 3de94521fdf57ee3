/** The experts' tiled products by subgroup matrices: tiles for prefill (shaders/experts/many_matrix.wgsl), strips for batches (strip.wgsl). */
import type { GpuContext } from "@shoal/gpu";
import {
  MATRIX_FORMATS,
  MATRIX_TOLERANCES,
  type MatrixMode,
  type MatrixTile,
  TILE_128X128,
  TILE_128X16,
  TILE_128X32,
  TILE_128X64,
  TILE_256X32,
  TILE_256X32_WIDE,
  TILE_64X32,
  TILE_64X64_SLIM,
  inputRows,
  matrixConstants,
  matrixModes,
  matrixProducts,
  supportsMatrixTile,
  weightRows,
} from "../matrix/tiles.ts";
import { FRAGMENT, type MatrixStrip, stripConstants, stripFormat, supportsStrip } from "../matrix/strips.ts";
import { CHUNK } from "../weights.ts";
import type { ExpertsManyShape, ExpertsManyVariant } from "./variant.ts";

/** Takes tiles of up to 128 rows. */
export function expertsMatrixVariants(gpu: GpuContext, shape: ExpertsManyShape): readonly ExpertsManyVariant[] {
  if (!MATRIX_FORMATS.includes(shape.format)) return [];
  const modes = matrixModes(gpu);
  const tiles = modes.map((mode) => variant(mode, tileFor(gpu, mode, shape), shape));
  return [
    ...(stripFormat(shape.format) ? modes.flatMap((mode) => stripsFor(shape).map((each) => strip(mode, each, shape))) : []),
    ...tiles,
  ];
}

/** To be had by name only. */
export function expertsMatrixTrials(gpu: GpuContext, shape: ExpertsManyShape): readonly ExpertsManyVariant[] {
  if (!MATRIX_FORMATS.includes(shape.format)) return [];
  const slim = [TILE_64X32, TILE_64X64_SLIM].find((tile) => shape.tileRows <= inputRows(tile));
  const fast = matrixModes(gpu).includes("fast") ? [] : [variant("fast", tileFor(gpu, "fast", shape), shape)];
  const strips = stripFormat(shape.format)
    ? [
        strip("emulated", { fragments: 2, subgroups: 1, lines: true }, shape),
        // By tile as `ROUTED_GATE_UP` is; with fewer subgroups, for each costs software adapters seconds.
        strip("emulated", { ...WITH_LOOPS, tilesFirst: shape.gateUp }, shape),
      ]
    : [];
  return [...fast, ...(slim ? [variant("emulated", slim, shape)] : []), ...strips];
}

interface ExpertsStrip extends Omit<MatrixStrip, "inputs"> {
  /** Tiles of up to FEW_ROWS rows are multiplied by loops (shaders/lib/few_rows.wgsl). */
  readonly few?: boolean;
  readonly tilesFirst?: boolean;
}

const FEW_ROWS = 2;
/** Rows of weights that a subgroup multiplies them with at a time. */
const TEAM_ROWS = 8;
/** Lanes, each with a chunk of a row at a time, and vectors that are loaded by one call. */
const TEAM_LANES = 32;
const STRIP_LOADS = 2;
const TEAM = { FEW_ROWS, TEAM_ROWS, TEAM_SUMS: TEAM_ROWS * FEW_ROWS, HALF_SUMS: (TEAM_ROWS * FEW_ROWS) / 2 };

const WITH_LOOPS: ExpertsStrip = { fragments: 4, subgroups: 2, short: true, few: true };
const ROUTED_GATE_UP: ExpertsStrip = { fragments: 4, subgroups: 4, short: true, few: true, tilesFirst: true };
const FIXED_DOWN: ExpertsStrip = { fragments: 2, subgroups: 8, short: true };
const GATE_UP_STRIPS: readonly ExpertsStrip[] = [WITH_LOOPS, { fragments: 2, subgroups: 2, lines: true }, { fragments: 4, subgroups: 1 }];
const DOWN_STRIPS: readonly ExpertsStrip[] = [WITH_LOOPS, { fragments: 2, subgroups: 1, lines: true }, { fragments: 2, subgroups: 1 }];

/** The one first that was fastest on an H100, at 32 tokens of DeepSeek-V2-Lite's experts, or of its dense MLP in slices: down has few workgroups there, which want their columns in many parts. */
function stripsFor({ gateUp, fixed = false }: ExpertsManyShape): readonly ExpertsStrip[] {
  if (gateUp) return fixed ? [...GATE_UP_STRIPS, ROUTED_GATE_UP] : [ROUTED_GATE_UP, ...GATE_UP_STRIPS];
  return fixed ? [FIXED_DOWN, ...DOWN_STRIPS] : [...DOWN_STRIPS, FIXED_DOWN];
}

/** So many rows of weights, with gate-up half of them gate's; the columns in so many parts. */
function strip(
  mode: MatrixMode,
  { few = false, tilesFirst = false, ...made }: ExpertsStrip,
  { gateUp }: ExpertsManyShape,
): ExpertsManyVariant {
  const shape: MatrixStrip = { ...made, inputs: 1 };
  const { fragments, subgroups, lines = false, short = false } = shape;
  return {
    name: `${mode}-strip-${FRAGMENT * fragments}-s${subgroups}${short ? "-short" : ""}${lines ? "-lines" : ""}${few ? "-few" : ""}${tilesFirst ? "-tiles" : ""}`,
    shader: "experts/strip.wgsl",
    weightRows: FRAGMENT * shape.fragments,
    tileRows: [4, 8, 16],
    halves: "tiled",
    tilesFirst,
    products: matrixProducts(mode),
    tolerance: MATRIX_TOLERANCES[mode],
    constants: { GATE_UP: gateUp, TILES_FIRST: tilesFirst, FEW: few, ...(few && TEAM) },
    deviceConstants: (_, rows) => ({
      ...stripConstants(shape, mode, rows),
      ...(few && { TEAM_LOADS: TEAM_ROWS / STRIP_LOADS, RAGGED_TEAM: (rows.stride / CHUNK) % TEAM_LANES !== 0 }),
    }),
    supported: (gpu: GpuContext) => supportsStrip(gpu, shape, mode),
  };
}

/** The first that has room for the rows, on a device that has room for it. */
function tileFor(gpu: GpuContext, mode: MatrixMode, { tileRows }: ExpertsManyShape): MatrixTile {
  const large = mode === "fast" ? TILE_256X32 : TILE_256X32_WIDE;
  const fitting = [TILE_128X16, large, TILE_128X32, TILE_128X64, TILE_128X128].filter((tile) => tileRows <= inputRows(tile));
  return fitting.find((tile) => supportsMatrixTile(gpu, tile, mode)) ?? TILE_128X128;
}

function variant(mode: MatrixMode, tile: MatrixTile, { format }: ExpertsManyShape): ExpertsManyVariant {
  return {
    name: mode,
    shader: "experts/many_matrix.wgsl",
    weightRows: weightRows(tile),
    tileRows: [4, 8, 16, 32, 64, 128],
    halves: true,
    products: matrixProducts(mode),
    tolerance: MATRIX_TOLERANCES[mode],
    constants: matrixConstants(tile, mode, format),
    supported: (gpu: GpuContext) => supportsMatrixTile(gpu, tile, mode),
  };
}
