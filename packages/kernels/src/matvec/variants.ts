/** The shapes that matvec comes in, and which one a device starts with. */
import type { GpuContext } from "@shoal/gpu";
import {
  PLAIN,
  type TeamsVariant,
  WHOLE_ROWS,
  WHOLE_ROWS_APART,
  compilesSlowly,
  prefersTeams,
  prefersWholeRows,
  sizeClass,
  teamsVariant,
  withFirst,
} from "../rowTeams.ts";
import type { WeightFormat } from "../weights.ts";

const TEAMS: readonly TeamsVariant[] = [
  WHOLE_ROWS,
  WHOLE_ROWS_APART,
  teamsVariant(4, 32, 4, 2, 1, 8),
  teamsVariant(4, 32, 8, 2, 1, 8),
  teamsVariant(4, 32, 14, 2, 1, 8),
  teamsVariant(4, 32, 2, 2, 1, 8),
  teamsVariant(8, 32, 1, 2, 1, 8),
  teamsVariant(8, 32, 4, 1, 1, 8),
  teamsVariant(4, 32, 4, 4, 1, 4),
  teamsVariant(4, 32, 8, 4, 1, 4),
  teamsVariant(8, 32, 4, 4, 1, 4),
  teamsVariant(8, 32, 8, 2, 1, 4),
  teamsVariant(2, 32, 4, 8, 1, 4),
  teamsVariant(2, 32, 8, 4, 1, 4),
  teamsVariant(1, 32, 8, 8, 1, 4),
  teamsVariant(4, 32, 1, 4, 4, 4),
  teamsVariant(4, 32, 1, 1),
  teamsVariant(4, 32, 1, 2),
  teamsVariant(4, 32, 2, 2),
  teamsVariant(4, 32, 4, 1),
  teamsVariant(4, 32, 4, 2),
  teamsVariant(1, 32, 4, 2),
  teamsVariant(1, 32, 8, 2),
  teamsVariant(4, 32, 8, 1),
  teamsVariant(2, 32, 4, 2),
  teamsVariant(2, 8, 4, 4, 4),
  teamsVariant(4, 4, 1, 2, 16),
];

/** Sums of a lane beyond which registers run out. */
const MOST_SUMS = 32;
export interface MatvecShape {
  readonly format: WeightFormat;
  readonly tokens: number;
  /** Of one part of the matrix. */
  readonly rows: number;
  readonly stride: number;
}

/** The key of tuning tables: shapes of about the same size share it. */
export function matvecOperation({ format, tokens, rows, stride }: MatvecShape): string {
  return `matvec/${format}/${tokens}/${sizeClass(rows)}x${sizeClass(stride)}`;
}

/** The device's default first. */
export function matvecVariants(gpu: GpuContext, shape: MatvecShape): readonly TeamsVariant[] {
  const most = gpu.limits.maxComputeWorkgroupsPerDimension;
  const fits = ({ teams, whole, apart = false }: TeamsVariant): boolean =>
    whole !== undefined ||
    (teams !== undefined && teams.rows * (apart ? 1 : shape.tokens) <= MOST_SUMS && shape.rows <= most * teams.rows * teams.teams);
  const variants = [PLAIN, ...TEAMS.filter(fits)];
  if (prefersWholeRows(gpu)) return withFirst(variants, (compilesSlowly(gpu) ? WHOLE_ROWS_APART : WHOLE_ROWS).name);
  return prefersTeams(gpu) ? withFirst(variants, preferred(shape)) : variants;
}

/** Measured on an H100: eight columns a load and four parts of a row do well everywhere; few rows want more parts, long ones more of each, short ones none. */
function preferred({ tokens, rows, stride }: MatvecShape): string {
  if (tokens > 4) return PLAIN.name;
  if (rows < 1024) return "r1-l32x8-u8-c4";
  if (tokens === 1 && stride > 8192) return "r4-l32x8-u2-c8";
  if (tokens === 1 && stride > 4096 && rows < 8192) return "r4-l32x14-u2-c8";
  if (tokens === 1 && stride < 2048 && rows > 8192) return "r8-l32x1-u2-c8";
  return "r4-l32x4-u2-c8";
}
