/** Which table serves an adapter: the person's own, else one that comes with Shoal, else none. */
import type { OpenedAdapter } from "@shoal/gpu";
import { type TuningTable, choicesOf, shippedTable } from "@shoal/model/tuning";
import { readTable, tableFile } from "./cache.ts";

/** What is said about it, by `shoal doctor` and others. */
export interface TuningReport {
  /** `off`: not wanted. */
  readonly source: "own" | "shipped" | "none" | "off";
  /** The person's own, whether it is there or not. */
  readonly file: string;
  /** When it was measured, and with which version; null where there is no table. */
  readonly date: string | null;
  readonly version: string | null;
  /** Operations that it names a variant for. */
  readonly operations: number;
  /** Why the person's own is not used. */
  readonly problem: string | null;
}

export interface Tuning {
  readonly choices: ReadonlyMap<string, string>;
  readonly report: TuningReport;
}

export async function tuningFor(opened: OpenedAdapter, wanted: boolean, directory?: string): Promise<Tuning> {
  const file = tableFile(opened, directory);
  if (!wanted) return without(file, "off", null);
  let problem: string | null = null;
  try {
    const own = await readTable(file, opened);
    if (own) return withTable(own, file, "own", null);
  } catch (error) {
    problem = error instanceof Error ? error.message : String(error);
  }
  const shipped = shippedTable(opened.adapter, opened.engine);
  return shipped ? withTable(shipped, file, "shipped", problem) : without(file, "none", problem);
}

function withTable(table: TuningTable, file: string, source: "own" | "shipped", problem: string | null): Tuning {
  const choices = choicesOf(table);
  return { choices, report: { source, file, date: table.date, version: table.version, operations: choices.size, problem } };
}

function without(file: string, source: "none" | "off", problem: string | null): Tuning {
  return { choices: new Map(), report: { source, file, date: null, version: null, operations: 0, problem } };
}

/** One line, such as "8 operations, measured here on 2026-11-23 with 0.1.0". */
export function tuningLine({ source, date, version, operations }: TuningReport): string {
  if (source === "off") return "off";
  if (source === "none") return "none: 'shoal tune' measures which variants are fastest here";
  const where = source === "own" ? "here" : "for this kind of device";
  return `${operations} ${operations === 1 ? "operation" : "operations"}, measured ${where} on ${date?.slice(0, 10)} with ${version}`;
}
