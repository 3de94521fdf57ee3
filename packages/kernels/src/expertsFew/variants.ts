/** The shapes that the experts of a few tokens come in, and which one a device starts with. */
import type { GpuContext } from "@shoal/gpu";
import type { ExpertGroup } from "../experts.ts";
import { PLAIN, type TeamsVariant, prefersTeams, rowUnits, sizeClass, teamsVariant, withFirst } from "../rowTeams.ts";
import { CHUNK, roundUp } from "../weights.ts";

/** `rows` are as many of gate and as many of up. */
const GATE_UP: readonly TeamsVariant[] = [
  PLAIN,
  teamsVariant(4, 32, 1, 1),
  teamsVariant(4, 32, 1, 2),
  teamsVariant(4, 32, 2, 1),
  teamsVariant(4, 32, 2, 2),
  teamsVariant(4, 32, 4, 1),
  teamsVariant(4, 32, 7, 1),
  teamsVariant(2, 32, 1, 2),
  teamsVariant(2, 32, 1, 4),
  teamsVariant(2, 32, 2, 2),
  teamsVariant(2, 32, 4, 2),
  teamsVariant(2, 32, 7, 2),
  teamsVariant(4, 16, 4, 1, 2),
  teamsVariant(4, 8, 4, 1, 4),
  teamsVariant(4, 8, 8, 1, 4),
  teamsVariant(2, 8, 4, 2, 4),
  teamsVariant(4, 8, 1, 2, 4),
  teamsVariant(4, 4, 1, 1, 8),
];

/** The columns of a slot are not split: `split` parts take slots in turns. */
const DOWN: readonly TeamsVariant[] = [
  PLAIN,
  teamsVariant(4, 32, 1, 2),
  teamsVariant(4, 32, 1, 4),
  teamsVariant(4, 32, 2, 2),
  teamsVariant(4, 32, 3, 2),
  teamsVariant(4, 32, 3, 4),
  teamsVariant(4, 32, 4, 1),
  teamsVariant(4, 32, 4, 2),
  teamsVariant(4, 32, 8, 1),
  teamsVariant(4, 32, 8, 2),
  teamsVariant(4, 32, 9, 2),
  teamsVariant(8, 32, 3, 1),
  teamsVariant(8, 32, 3, 2),
  teamsVariant(2, 32, 3, 4),
  teamsVariant(2, 32, 9, 4),
  teamsVariant(2, 32, 8, 1),
  teamsVariant(4, 8, 3, 2, 4),
  teamsVariant(4, 8, 8, 2, 4),
  teamsVariant(4, 8, 1, 2, 4),
  teamsVariant(4, 4, 2, 1, 8),
];

export interface ExpertsFewShape {
  readonly group: ExpertGroup;
  readonly slots: number;
  readonly tokens: number;
}

/** The key of tuning tables: shapes of about the same size share it. */
export function expertsFewOperation(which: "gateUp" | "down", { group, slots, tokens }: ExpertsFewShape): string {
  const { format, width, hidden } = group;
  const [rows, cols] = which === "gateUp" ? [width, hidden] : [hidden, width];
  const name = which === "gateUp" ? "expertsGateUpFew" : "expertsDownFew";
  return `${name}/${format}/${tokens}/${slots}x${sizeClass(rows)}x${sizeClass(cols)}`;
}

/** The device's default first. */
export function gateUpVariants(gpu: GpuContext, { group }: ExpertsFewShape): readonly TeamsVariant[] {
  if (!prefersTeams(gpu)) return GATE_UP;
  const units = rowUnits(group.format, roundUp(group.hidden, CHUNK));
  return withFirst(GATE_UP, units > 128 ? "r2-l32x4-u2" : "r4-l32x1-u1");
}

/** The device's default first. */
export function downVariants(gpu: GpuContext, { group, slots }: ExpertsFewShape): readonly TeamsVariant[] {
  if (!prefersTeams(gpu)) return DOWN;
  // Slots divide evenly, and a matrix of few rows is spread over more subgroups.
  if (slots % 9 === 0) return withFirst(DOWN, "r4-l32x9-u2");
  if (slots % 3 === 0) return withFirst(DOWN, "r4-l32x3-u2");
  if (slots % 4 !== 0) return withFirst(DOWN, "r4-l32x1-u2");
  return withFirst(DOWN, group.hidden > 4096 ? "r4-l32x4-u2" : "r4-l32x8-u1");
}
