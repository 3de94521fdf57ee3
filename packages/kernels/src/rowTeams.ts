/** How a workgroup shares the rows and columns of a matrix times a few vectors (shaders/lib/row_teams.wgsl), for devices whose subgroup size is known. */
import type { GpuContext, ShaderConstants } from "@shoal/gpu";
import type { Variant } from "./variants.ts";
import { FORMAT_BYTES, type WeightFormat } from "./weights.ts";

/** Most bytes that a lane loads of a row at once. */
const UNIT_BYTES = 16;

export interface RowTeams {
  /** Rows that a team has together: a power of two. */
  readonly rows: number;
  /** Invocations that share them: a power of two. */
  readonly lanes: number;
  /** Parts of the columns that work side by side in a workgroup. */
  readonly split: number;
  /** Loads of a row that a lane has in flight. */
  readonly unroll: number;
  /** Teams side by side in a workgroup. */
  readonly teams: number;
  /** Columns of a row that a lane loads at once; as many as 16 bytes hold, where that is fewer. */
  readonly columns: 4 | 8 | 16;
}

/** Whole rows of a matrix for each lane of a subgroup, which load what they multiply them by for each other (shaders/matvec/whole.wgsl). */
export interface WholeRows {
  /** Of each lane: a power of two. */
  readonly rows: number;
  /** As in RowTeams. */
  readonly columns: RowTeams["columns"];
}

export interface TeamsVariant extends Variant {
  /** Absent, as is `whole`: the plain kernel, which runs anywhere. */
  readonly teams?: RowTeams;
  readonly whole?: WholeRows;
  /** Tokens do not share workgroups: weights are decoded for each, and one pipeline does for any number of them. */
  readonly apart?: boolean;
}

export const PLAIN: TeamsVariant = { name: "plain", constants: {} };

/** Such as "r4-l32x2-u1": 4 rows a team, 32 lanes times 2 parts of the columns, 1 load of each row in flight; "-t4" more for 4 teams, "-c4" where a load is of 4 columns, not 16. */
export function teamsName({ rows, lanes, split, unroll, teams, columns }: RowTeams): string {
  return `r${rows}-l${lanes}x${split}-u${unroll}${teams > 1 ? `-t${teams}` : ""}${columns < 16 ? `-c${columns}` : ""}`;
}

export function teamsVariant(
  rows: number,
  lanes: number,
  split: number,
  unroll: number,
  teams = 1,
  columns: RowTeams["columns"] = 16,
): TeamsVariant {
  const shape = { rows, lanes, split, unroll, teams, columns };
  const workgroup = lanes * split * teams;
  return {
    name: teamsName(shape),
    constants: {},
    teams: shape,
    supported: ({ dialect, limits }) =>
      dialect.subgroups !== "none" && dialect.subgroupSize >= 4 && workgroup <= limits.maxComputeInvocationsPerWorkgroup,
  };
}

/** The shape on this device: where subgroups are narrower than a team's lanes, the columns are split further instead. */
export function onDevice(gpu: GpuContext, { lanes, split, ...rest }: RowTeams): RowTeams {
  const narrow = Math.min(lanes, gpu.dialect.subgroupSize);
  return { ...rest, lanes: narrow, split: (split * lanes) / narrow };
}

/** Constants of lib/row_teams.wgsl. @param sums that each team takes */
export function teamConstants(
  gpu: GpuContext,
  { rows, lanes, split, unroll, teams, columns }: RowTeams,
  format: WeightFormat,
  sums: number,
) {
  return {
    UNIT_WORDS: unitBytes(format, columns) / 4,
    PARTS: unitBytes(format, columns) / FORMAT_BYTES[format] / 4,
    ROWS: rows,
    LANES: lanes,
    SPLIT: split,
    UNROLL: unroll,
    TEAMS: teams,
    SUMS: sums,
    WORKGROUP: lanes * split * teams,
    WHOLE_SUBGROUP: lanes === gpu.dialect.subgroupSize,
  };
}

/** Constants of teams that multiply `tokens` rows of x. @param shape as it is on the device */
export function batchTeamConstants(
  gpu: GpuContext,
  shape: RowTeams,
  tokens: number,
  { format, stride }: { readonly format: WeightFormat; readonly stride: number },
): ShaderConstants {
  const { rows, lanes, split, unroll, columns } = shape;
  const units = rowUnits(format, stride, columns);
  return { ...teamConstants(gpu, shape, format, tokens * rows), UNITS: units, RAGGED_UNITS: units % (lanes * split * unroll) !== 0 };
}

function unitBytes(format: WeightFormat, columns: number): number {
  return Math.min(UNIT_BYTES, columns * FORMAT_BYTES[format]);
}

/** Loads that a row of `stride` elements takes. */
export function rowUnits(format: WeightFormat, stride: number, columns: RowTeams["columns"] = 16): number {
  return (stride * FORMAT_BYTES[format]) / unitBytes(format, columns);
}

/**
 * Lanes that a batch's teams need at least. SwiftShader has subgroups of 4, and its compiler, with a function of hundreds of products unrolled, takes minutes and ends with
 * its process (Chromium 156, "Instance dropped").
 */
export const SMALLEST_TEAM = 8;

/** Whether teams are what a device should start with: large GPUs have subgroups of a known size of at least 32, and memory that wants much in flight. */
export function prefersTeams({ dialect, adapter }: GpuContext): boolean {
  return dialect.subgroups !== "none" && dialect.subgroupSize >= 32 && !adapter.isSoftware;
}

/** A lane's share of what a subgroup loads together is a vector of 4 columns: a unit of 16 takes so many lanes at least, and a block of 128, which has one scale, so many at most. */
const LEAST_LANES = 4;
const MOST_LANES = 32;

/**
 * No sums across lanes, no barriers: there a barrier or a sum over a workgroup costs more than the products of a small matrix. And a load, of one address for all lanes too, costs more than
 * what is done with it, so that lanes load x for each other. Two rows a lane, because what more rows would keep at once does not fit the processor's registers. Of the time that four whole rows
 * take whose lanes load x for themselves, this takes 0.7 to 0.9 for one token and 0.6 to 0.75 for two; of the plain kernel's a third to a tenth (llvmpipe).
 */
export const WHOLE_ROWS: TeamsVariant = {
  name: "whole-2",
  constants: {},
  whole: { rows: 2, columns: 16 },
  supported: prefersWholeRows,
};

/** Constants of whole.wgsl. */
export function wholeRows(
  { dialect: { subgroupSize } }: GpuContext,
  { rows, columns }: WholeRows,
  { format, stride }: { readonly format: WeightFormat; readonly stride: number },
): { readonly rowsPerWorkgroup: number; readonly constants: ShaderConstants } {
  const bytes = unitBytes(format, columns);
  const vectors = stride / 4;
  return {
    rowsPerWorkgroup: rows * subgroupSize,
    constants: {
      UNIT_WORDS: bytes / 4,
      PARTS: bytes / FORMAT_BYTES[format] / 4,
      ROWS: rows,
      LANES: subgroupSize,
      VECTORS: vectors,
      BLOCK_UNITS: (subgroupSize * 4 * FORMAT_BYTES[format]) / bytes,
      RAGGED_VECTORS: vectors % subgroupSize !== 0,
    },
  };
}

/** Several rows of x, eight whole rows of weights a lane, each weight decoded for four rows of x: half to a fifteenth of the plain tiles' time (llvmpipe, 16 and 64 tokens). */
export const WHOLE_ROWS_BATCH = { rows: 8, lanes: 1, split: 1, unroll: 1, teams: 8, columns: 4, tokens: 4 } as const;

/** WHOLE_ROWS for one token after the other: a step of another number of tokens compiles nothing. */
export const WHOLE_ROWS_APART: TeamsVariant = { ...WHOLE_ROWS, name: `${WHOLE_ROWS.name}-apart`, apart: true };

/**
 * Whether it matters more how few pipelines there are than what each of them does: SwiftShader, a browser's software adapter, takes 0.1 to 1 s to compile one, every time it is opened, and a step
 * of a small model takes 50 ms.
 */
export function compilesSlowly({ adapter, dialect }: GpuContext): boolean {
  return adapter.isSoftware && dialect.engine === "browser";
}

/** Most tokens of a step that decodes. */
const FEW_TOKENS = 4;

/** Whether steps of so few tokens as these should run the pipelines of one token, a token after the other. */
export function sharesPipelines(gpu: GpuContext, tokens: number): boolean {
  return tokens <= FEW_TOKENS && compilesSlowly(gpu);
}

/** Whether a device should start with WHOLE_ROWS. */
export function prefersWholeRows({ dialect, adapter }: GpuContext): boolean {
  const { subgroups, subgroupSize } = dialect;
  return adapter.isSoftware && subgroups !== "none" && subgroupSize >= LEAST_LANES && subgroupSize <= MOST_LANES;
}

/** Whether it can compile WHOLE_ROWS_BATCH: see SMALLEST_TEAM. */
export function offersWholeRowsBatch({ dialect }: GpuContext): boolean {
  return dialect.subgroups !== "none" && dialect.subgroupSize >= SMALLEST_TEAM;
}

/** The variants with the one named first, where it is among them; otherwise as they are. */
export function withFirst<V extends Variant>(variants: readonly V[], name: string): readonly V[] {
  const first = variants.filter((variant) => variant.name === name);
  return [...first, ...variants.filter((variant) => variant.name !== name)];
}

/**
 * What one shape of a contract suite runs: the first variant and every twelfth of the others, other ones for the next shape, since software adapters take a
 * second to compile each.
 */
export function takeTurns<V>(variants: readonly V[], shape: number): readonly V[] {
  return variants.filter((_, index) => index === 0 || index % 12 === shape % 12);
}

/** Rows or columns as operation keys of tuning tables have them: the next power of two. */
export function sizeClass(count: number): number {
  return 2 ** Math.ceil(Math.log2(count));
}
