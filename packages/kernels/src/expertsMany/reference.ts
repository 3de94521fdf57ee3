/** Grouping of rows by expert, for comparison: sorts where the kernel counts. The products' reference is expertsFew/reference.ts. */
import type { Route } from "../expertsFew/reference.ts";

export interface GroupedRows {
  readonly rows: readonly number[];
  readonly tiles: readonly (readonly [expert: number, first: number, count: number])[];
}

export function groupReference(routes: readonly Route[], tileRows: number): GroupedRows {
  const expertOf = (row: number): number => routes[row]?.expert ?? 0;
  const rows = routes.map((_, row) => row).sort((a, b) => expertOf(a) - expertOf(b) || a - b);
  const tiles: [number, number, number][] = [];
  for (const [place, row] of rows.entries()) {
    const tile = tiles.at(-1);
    if (tile && tile[0] === expertOf(row) && tile[2] < tileRows) tile[2]++;
    else tiles.push([expertOf(row), place, 1]);
  }
  return { rows, tiles };
}
