/**
 * The experts' products for more than a few tokens (shaders/experts): batches, limited by reading weights, and prefill, limited by
 * arithmetic. Rows are grouped by expert first (grouping.ts), in tiles of a height that decides which variants suit (tileRows.ts,
 * variants.ts); grids are upper bounds, for which tiles exist is known on the GPU only.
 */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import { pageSets } from "../expertPages.ts";
import type { ExpertGroup, ExpertPage } from "../experts.ts";
import {
  type HalvesLayout,
  type HalvesRows,
  type HalvesShape,
  MOST_TILE_COLUMNS,
  halvesBytes,
  halvesConstants,
  halvesOctets,
  sameLayout,
  splitHalves,
} from "../matrix/halves.ts";
import { chooseVariant } from "../variants.ts";
import { CHUNK, FORMAT_BYTES, SCALE_BLOCK, formatConstants, roundUp } from "../weights.ts";
import { FRAGMENT } from "../matrix/strips.ts";
import { type ExpertGrouping, type TileCounts, expertTiles, ownBlocks } from "./grouping.ts";
import { type ExpertRows, mostStripTokens } from "./tileRows.ts";
import type { ExpertsManyVariant } from "./variant.ts";
import { expertsManyOperation, expertsManyTrials, expertsManyVariants } from "./variants.ts";

const COMBINE_COLUMNS = 64;

interface ExpertsManySpec {
  readonly group: ExpertGroup;
  /** Experts that each token takes. */
  readonly slots: number;
  /** Its tileRows decide which variants can run. */
  readonly grouping: ExpertGrouping;
  /** [tokens * slots, roundUp(width, 16)] f32, zero beyond the width. */
  readonly h: GPUBuffer;
  readonly tokens: number;
  /** For variants that split their input: `halvesBytes` of it, [tokens, hidden] for gate-up and [tokens * slots, width] for down. Without it they do not run. */
  readonly halves?: GPUBuffer | undefined;
  /** The input as its variant wants it, where that was written already: nothing is read as f32 then. */
  readonly written?: HalvesRows | undefined;
  /** By name, of expertsManyVariants(). */
  readonly variant?: string;
  readonly label?: string;
}

export interface ExpertsGateUpManySpec extends ExpertsManySpec {
  /** h is written as `hiddenLayout` has it, in place of `h`: `groupTokens` or `gateMany` settled its powers of two. */
  readonly hidden?: HalvesRows | undefined;
  /** x [tokens, xStride] f32, normalized; xStride a multiple of 16. */
  readonly x: GPUBuffer;
  readonly xStride: number;
}

export interface ExpertsDownManySpec extends ExpertsManySpec {
  /** [tokens * slots, outStride] f32. */
  readonly out: GPUBuffer;
  readonly outStride: number;
}

export interface ExpertsCombineSpec {
  /** [tokens, slots] of (expert, weight as f32 bits). */
  readonly routing: GPUBuffer;
  readonly slots: number;
  /** [tokens * slots, outStride] f32. */
  readonly out: GPUBuffer;
  readonly outStride: number;
  /** y [tokens, yStride] f32. */
  readonly y: GPUBuffer;
  readonly yStride: number;
  readonly hidden: number;
  /** Adds to y instead of overwriting it. */
  readonly residual: boolean;
  readonly tokens: number;
  readonly label?: string;
}

/**
 * h = silu(W_gate x) * (W_up x), at row token * slots + slot: one dispatch for each set of pages that can be bound together, usually one.
 * @throws RangeError if x was written in another way than its variant wants, or is yet to be gathered where others were placed
 */
export async function expertsGateUpMany(gpu: GpuContext, spec: ExpertsGateUpManySpec): Promise<readonly Dispatch[]> {
  const { group, x, xStride, h, hidden, label = "experts gate-up" } = spec;
  if (hidden && !sameLayout(hidden.layout, hiddenRows(spec)))
    throw new RangeError(`Cannot write what gate and up make as ${JSON.stringify(hidden.layout)}`);
  return products(gpu, spec, label, {
    gateUp: true,
    ...(hidden && { halvesOutput: hidden }),
    pages: group.gateUp,
    scales: group.gateUpScales,
    input: x,
    inputStride: xStride,
    columns: group.hidden,
    output: hidden?.buffer ?? h,
    outputStride: roundUp(group.width, CHUNK),
    outputs: group.width,
  });
}

/** out = W_down h, unweighted, at row token * slots + slot. */
export async function expertsDownMany(gpu: GpuContext, spec: ExpertsDownManySpec): Promise<readonly Dispatch[]> {
  const { group, h, out, outStride, label = "experts down" } = spec;
  return products(gpu, spec, label, {
    gateUp: false,
    pages: group.down,
    scales: group.downScales,
    input: h,
    inputStride: roundUp(group.width, CHUNK),
    columns: group.width,
    output: out,
    outputStride: outStride,
    outputs: group.hidden,
  });
}

/** y (+)= the weighted sum over slots of out. */
export async function expertsCombine(gpu: GpuContext, spec: ExpertsCombineSpec): Promise<readonly Dispatch[]> {
  const { routing, slots, out, outStride, y, yStride, hidden, residual, tokens, label = "experts sum" } = spec;
  const kernel = await gpu.kernel(
    "experts/combine.wgsl",
    { SLOTS: slots, HIDDEN: hidden, OUT_STRIDE: outStride, Y_STRIDE: yStride, RESIDUAL: residual },
    label,
  );
  const cost = { bytes: tokens * slots * hidden * 4, flops: 2 * tokens * slots * hidden };
  return [kernel.dispatch({ routing, out, y }, [Math.ceil(hidden / COMBINE_COLUMNS), tokens, 1], cost, label)];
}

/** What variants that split the rows of tiles have room for: a block of 16 rows a tile. */
function tiledHalves(blocks: number, columns: number): HalvesShape {
  return { rows: FRAGMENT * blocks, columns, blocks: true };
}

/** Bytes of `halves` that batches of up to so many tokens take where strips of subgroup matrices multiply them. @param columns the larger of `hidden` and `width` */
export function stripHalvesBytes(rows: ExpertRows, columns: number): number {
  const maxTokens = mostStripTokens(rows);
  if (maxTokens === 0) return 0;
  const { maxTiles } = expertTiles({ ...rows, maxTokens, tileRows: FRAGMENT });
  return halvesBytes(tiledHalves(Math.max(maxTiles, ownBlocks({ ...rows, tokens: maxTokens })), columns));
}

/** Bytes of a grouping's `rows` where rows of such batches are placed (`PlacedRows`). */
export function placedRowsBytes(rows: ExpertRows): number {
  return ownBlocks({ ...rows, tokens: mostStripTokens(rows) }) * FRAGMENT * 4;
}

/** Rows of `halves` for every variant: `halvesBuffer` makes one of them. */
export function mostHalvesRows({ maxTokens, slots, ...counts }: TileCounts): number {
  return Math.max(maxTokens * slots, FRAGMENT * expertTiles({ maxTokens, slots, ...counts }).maxTiles);
}

interface Products {
  readonly gateUp: boolean;
  readonly pages: readonly ExpertPage[];
  readonly scales: GPUBuffer | undefined;
  readonly input: GPUBuffer;
  readonly inputStride: number;
  readonly columns: number;
  readonly output: GPUBuffer;
  readonly outputStride: number;
  readonly outputs: number;
  readonly halvesOutput?: HalvesRows;
}

type Chosen = Pick<ExpertsManySpec, "group" | "slots" | "tokens" | "halves" | "variant"> & {
  readonly grouping: Pick<ExpertGrouping, "tileRows" | "blocks">;
};

export interface ExpertsLayout {
  readonly layout: HalvesLayout;
  /** Rows are those of the tiles, as `groupTokens` gathers them or `gateMany` places them. Otherwise they are the input's. */
  readonly gathered: boolean;
}

/**
 * How `expertsGateUpMany` can write h for `expertsDownMany`, which reads it so: undefined where one of them cannot. Only where products round their input to f16 anyway: the powers of two, which are settled
 * before h is computed, leave no room for what that loses.
 */
export function hiddenLayout(gpu: GpuContext, spec: Chosen): HalvesLayout | undefined {
  const { group } = spec;
  const layout = hiddenRows(spec);
  const wanted = layoutOf(choose(gpu, spec, false), spec, false);
  const gathers = layoutOf(choose(gpu, spec, true), spec, true)?.gathered ?? false;
  const writes = gathers && gpu.dialect.f16 && group.gateUpScales !== undefined && group.width % SCALE_BLOCK === 0;
  return writes && wanted?.gathered && sameLayout(wanted.layout, layout) ? layout : undefined;
}

function hiddenRows(spec: Chosen): HalvesLayout {
  return { ...tiledHalves(mostBlocks(spec), spec.group.width), format: spec.group.format, products: 1 };
}

/** How the variant that `expertsGateUpMany` runs wants x: as f32, where that is undefined. */
export function gateUpLayout(gpu: GpuContext, spec: Chosen): ExpertsLayout | undefined {
  return layoutOf(choose(gpu, spec, true), spec, true);
}

function layoutOf({ halves, products: numbers = 1 }: ExpertsManyVariant, spec: Chosen, gateUp: boolean): ExpertsLayout | undefined {
  const { group, slots, tokens } = spec;
  const columns = roundUp(gateUp ? group.hidden : group.width, CHUNK);
  const rows = { rows: gateUp ? tokens : tokens * slots, columns };
  const gathered = halves === "tiled";
  const shape = gathered ? tiledHalves(mostBlocks(spec), columns) : rows;
  return !halves ? undefined : { layout: { ...shape, format: group.format, products: numbers }, gathered };
}

/** Of 16 rows, for tiles to lie in. */
function mostBlocks(spec: Chosen): number {
  return spec.grouping.blocks ?? mostTiles(spec);
}

function mostTiles({ group, slots, tokens, grouping }: Chosen): number {
  return expertTiles({ maxTokens: tokens, slots, experts: group.count, tileRows: grouping.tileRows }).maxTiles;
}

function choose(gpu: GpuContext, spec: Chosen, gateUp: boolean): ExpertsManyVariant {
  const { group, slots, grouping } = spec;
  const shape = { gateUp, format: group.format, tileRows: grouping.tileRows, fixed: slots === group.count };
  const listed = expertsManyVariants(gpu, shape);
  const all = spec.variant === undefined ? listed : [...listed, ...expertsManyTrials(gpu, shape)];
  const room = spec.halves?.size ?? 0;
  const candidates = all.filter((variant) => {
    const wanted = layoutOf(variant, spec, gateUp);
    return !wanted || room >= halvesBytes(wanted.layout);
  });
  return chooseVariant(gpu, expertsManyOperation(shape), candidates, spec.variant);
}

async function products(
  gpu: GpuContext,
  spec: ExpertsManySpec,
  label: string,
  { gateUp, pages, scales, input, inputStride, columns, output, outputStride, outputs, halvesOutput }: Products,
): Promise<readonly Dispatch[]> {
  const { group, slots, grouping, tokens, written } = spec;
  const { tiles, rows, tileRows } = grouping;
  const matrices = gateUp ? 2 : 1;
  const stride = roundUp(columns, CHUNK);
  const maxTiles = mostTiles(spec);
  const variant = choose(gpu, spec, gateUp);
  const wanted = layoutOf(variant, spec, gateUp);
  if (written && !(wanted && sameLayout(wanted.layout, written.layout)))
    throw new RangeError(`Cannot multiply what was written as ${JSON.stringify(written.layout)} by ${variant.name}`);
  if (wanted?.gathered && !written && grouping.blocks !== undefined)
    throw new RangeError(`Cannot gather the rows of ${label}: they were placed among ${grouping.blocks} blocks`);
  const halves = written?.buffer ?? (wanted && spec.halves);
  const buffers = { tiles, rows, ...(halves ? { halves } : { input }), output, ...(scales && { scales }) };
  const dispatches: Dispatch[] = [];
  if (wanted && halves && !written) {
    const gathered = wanted.gathered && { gathered: { tiles, rows, slots: gateUp ? slots : 1 } };
    const from = { x: input, xStride: inputStride };
    dispatches.push(await splitHalves(gpu, { ...wanted.layout, ...from, ...gathered, halves, label: `${label} split` }));
  }
  for (const set of pageSets(gpu, pages, Object.keys(buffers).length)) {
    const kernel = await gpu.kernel(
      variant.shader,
      {
        ...formatConstants(gpu, group.format),
        ...set.constants,
        ...variant.constants,
        ...variant.deviceConstants?.(gpu, { format: group.format, stride }),
        ...(wanted && { ...halvesConstants(wanted.layout), RAGGED_COLUMNS: stride % MOST_TILE_COLUMNS !== 0 }),
        HALVES_OUTPUT: halvesOutput !== undefined,
        ...(halvesOutput && { OUTPUT_OCTETS: halvesOctets(halvesOutput.layout.columns) }),
        GATE_UP: gateUp,
        MATRICES: matrices,
        OUTPUTS: outputs,
        CHUNKS: stride / CHUNK,
        SLOTS: slots,
        SCALE_ROWS: Math.ceil(outputs / SCALE_BLOCK),
        SCALE_COLUMNS: Math.ceil(columns / SCALE_BLOCK),
        INPUT_STRIDE: inputStride,
        OUTPUT_STRIDE: outputStride,
        TILE_ROWS: tileRows,
      },
      label,
    );
    const expertElements = matrices * outputs * stride;
    const cost = {
      bytes: Math.min(group.count, tokens * slots) * set.share * expertElements * FORMAT_BYTES[group.format],
      flops: 2 * tokens * slots * set.share * expertElements,
    };
    const strips = Math.ceil((outputs * matrices) / variant.weightRows);
    const grid = variant.tilesFirst === true ? ([maxTiles, strips, 1] as const) : ([strips, maxTiles, 1] as const);
    dispatches.push(kernel.dispatch({ ...buffers, ...set.buffers }, grid, cost, label));
  }
  return dispatches;
}
