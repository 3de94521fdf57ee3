/** The shapes that matvec comes in, and which one a device starts with. */
import type { GpuContext } from "@shoal/gpu";
import { PLAIN, type TeamsVariant, prefersTeams, rowUnits, sizeClass, teamsVariant, withFirst } from "../rowTeams.ts";
import type { WeightFormat } from "../weights.ts";

const TEAMS: readonly TeamsVariant[] = [
  teamsVariant(4, 32, 1, 1),
  teamsVariant(4, 32, 1, 2),
  teamsVariant(4, 32, 1, 4),
  teamsVariant(4, 32, 2, 2),
  teamsVariant(4, 32, 4, 1),
  teamsVariant(4, 32, 4, 2),
  teamsVariant(4, 32, 8, 1),
  teamsVariant(8, 32, 1, 1),
  teamsVariant(8, 32, 2, 1),
  teamsVariant(8, 32, 4, 1),
  teamsVariant(2, 32, 2, 2),
  teamsVariant(2, 32, 4, 2),
  teamsVariant(2, 32, 8, 1),
  teamsVariant(1, 32, 4, 2),
  teamsVariant(1, 32, 8, 2),
  teamsVariant(4, 16, 4, 2, 2),
  teamsVariant(4, 8, 4, 2, 4),
  teamsVariant(4, 8, 8, 1, 4),
  teamsVariant(2, 8, 4, 4, 4),
  teamsVariant(4, 8, 1, 4, 4),
  teamsVariant(4, 4, 2, 2, 8),
  teamsVariant(4, 4, 1, 2, 16),
];

/** Sums of a lane beyond which registers run out. */
const MOST_SUMS = 32;
/** Subgroups that a large GPU wants at work at once. */
const WANTED_SUBGROUPS = 4096;

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
  const variants = [PLAIN, ...TEAMS.filter(({ teams }) => teams && teams.rows * shape.tokens <= MOST_SUMS)];
  return prefersTeams(gpu) ? withFirst(variants, preferred(shape)) : variants;
}

/** Enough rows a team to share x, enough subgroups to keep memory busy, two loads a row in flight where a lane has as many. */
function preferred({ format, tokens, rows, stride }: MatvecShape): string {
  if (tokens > 4) return PLAIN.name;
  const units = rowUnits(format, stride);
  if (rows < 1024) return units > 256 ? "r1-l32x8-u2" : "r1-l32x4-u2";
  if (rows < 3072) return units > 256 ? "r4-l32x4-u1" : "r4-l32x2-u2";
  if (rows / 4 >= 2 * WANTED_SUBGROUPS) return units <= 128 && format === "fp8" ? "r4-l32x1-u1" : "r4-l32x1-u2";
  if (units <= 128) return "r4-l32x2-u2";
  return "r4-l32x4-u2";
}
