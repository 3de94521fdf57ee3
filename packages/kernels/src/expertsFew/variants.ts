/** The shapes that the experts of a few tokens come in, and which one a device starts with. */
import type { GpuContext } from "@shoal/gpu";
import type { ExpertGroup } from "../experts.ts";
import { PLAIN, type TeamsVariant, WHOLE_ROWS, prefersTeams, prefersWholeRows, sizeClass, teamsVariant, withFirst } from "../rowTeams.ts";

/** `rows` are as many of gate and as many of up. */
const GATE_UP: readonly TeamsVariant[] = [
  PLAIN,
  WHOLE_ROWS,
  teamsVariant(4, 32, 4, 2, 1, 8),
  teamsVariant(4, 32, 1, 2, 1, 8),
  teamsVariant(4, 32, 4, 2, 1, 4),
  teamsVariant(4, 32, 2, 4, 1, 4),
  teamsVariant(4, 32, 1, 4, 1, 4),
  teamsVariant(2, 32, 1, 4, 1, 4),
  teamsVariant(2, 32, 2, 4, 1, 4),
  teamsVariant(2, 32, 4, 4, 1, 4),
  teamsVariant(4, 32, 1, 1),
  teamsVariant(4, 32, 1, 2),
  teamsVariant(2, 32, 4, 2),
  teamsVariant(2, 8, 4, 2, 4),
  teamsVariant(2, 32, 2, 2, 1, 8),
];

/** The columns of a slot are not split: `split` parts take slots in turns. */
const DOWN: readonly TeamsVariant[] = [
  PLAIN,
  WHOLE_ROWS,
  teamsVariant(4, 32, 9, 2, 1, 8),
  teamsVariant(4, 32, 8, 2, 1, 8),
  teamsVariant(8, 32, 9, 1, 1, 8),
  // A whole row of DeepSeek-V3's in flight.
  teamsVariant(2, 32, 9, 4),
  teamsVariant(4, 32, 9, 4),
  teamsVariant(2, 32, 9, 8, 1, 8),
  teamsVariant(4, 32, 9, 4, 1, 8),
  teamsVariant(4, 32, 9, 4, 1, 4),
  teamsVariant(4, 32, 8, 4, 1, 4),
  teamsVariant(4, 32, 4, 4, 1, 4),
  teamsVariant(4, 32, 3, 4, 1, 4),
  teamsVariant(4, 32, 9, 2),
  teamsVariant(4, 32, 4, 2),
  teamsVariant(4, 32, 8, 1),
  teamsVariant(8, 32, 3, 2),
  teamsVariant(4, 8, 8, 2, 4),
  teamsVariant(2, 32, 9, 8, 1, 4),
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
export function gateUpVariants(gpu: GpuContext, { group }: Pick<ExpertsFewShape, "group">): readonly TeamsVariant[] {
  if (prefersWholeRows(gpu)) return withFirst(GATE_UP, WHOLE_ROWS.name);
  if (!prefersTeams(gpu)) return GATE_UP;
  return withFirst(GATE_UP, group.hidden > 2048 ? "r2-l32x2-u2-c8" : "r4-l32x1-u1");
}

/** The device's default first. */
export function downVariants(gpu: GpuContext, { slots }: ExpertsFewShape): readonly TeamsVariant[] {
  if (prefersWholeRows(gpu)) return withFirst(DOWN, WHOLE_ROWS.name);
  if (!prefersTeams(gpu)) return DOWN;
  // Slots divide evenly among the parts.
  if (slots % 9 === 0) return withFirst(DOWN, "r2-l32x9-u8-c4");
  if (slots % 8 === 0) return withFirst(DOWN, "r4-l32x8-u2-c8");
  return withFirst(DOWN, slots % 3 === 0 ? "r4-l32x3-u4-c4" : "r4-l32x4-u4-c4");
}
