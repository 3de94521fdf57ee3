/** How a workgroup shares the rows and columns of a matrix times a few vectors (shaders/lib/row_teams.wgsl), for devices whose subgroup size is known. */
import type { GpuContext } from "@shoal/gpu";
import type { Variant } from "./variants.ts";
import { FORMAT_BYTES, type WeightFormat } from "./weights.ts";

/** Bytes that a lane loads of a row at once. */
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
}

export interface TeamsVariant extends Variant {
  /** Absent: the plain kernel, which runs anywhere. */
  readonly teams?: RowTeams;
}

export const PLAIN: TeamsVariant = { name: "plain", constants: {} };

/** Such as "r4-l32x2-u1": 4 rows a team, 32 lanes times 2 parts of the columns, 1 load of each row in flight; "-t4" more for 4 teams. */
export function teamsName({ rows, lanes, split, unroll, teams }: RowTeams): string {
  return `r${rows}-l${lanes}x${split}-u${unroll}${teams > 1 ? `-t${teams}` : ""}`;
}

export function teamsVariant(rows: number, lanes: number, split: number, unroll: number, teams = 1): TeamsVariant {
  const shape = { rows, lanes, split, unroll, teams };
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
export function teamConstants(gpu: GpuContext, { rows, lanes, split, unroll, teams }: RowTeams, format: WeightFormat, sums: number) {
  return {
    PARTS: UNIT_BYTES / FORMAT_BYTES[format] / 4,
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

/** Loads of 16 bytes that a row of `stride` elements takes. */
export function rowUnits(format: WeightFormat, stride: number): number {
  return (stride * FORMAT_BYTES[format]) / UNIT_BYTES;
}

/** Whether teams are what a device should start with: large GPUs have subgroups of a known size of at least 32, and memory that wants much in flight. */
export function prefersTeams({ dialect, adapter }: GpuContext): boolean {
  return dialect.subgroups !== "none" && dialect.subgroupSize >= 32 && !adapter.isSoftware;
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
