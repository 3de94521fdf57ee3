/**
 * What was measured on one device: the fastest variant of each operation. A table comes from a file that others may have written, so it is checked, and is only ever
 * a preference: names that the code does not know are ignored where they are used (variants.ts).
 */
import type { AdapterDescription, EngineName } from "@shoal/gpu";

export interface TuningDevice {
  readonly vendor: string;
  readonly architecture: string;
  readonly device: string;
  readonly description: string;
}

export interface TuningTable {
  /** Of this form. */
  readonly format: 1;
  readonly device: TuningDevice;
  readonly engine: EngineName;
  /** The driver's version, where it is known. */
  readonly driver: string | null;
  /** ISO 8601, when the measurement ended. */
  readonly date: string;
  /** Shoal's. */
  readonly version: string;
  /** Variant by operation. */
  readonly choices: Readonly<Record<string, string>>;
  /** Milliseconds by operation and variant, all cases of the operation together. */
  readonly times: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

export class TuningTableError extends Error {
  override readonly name = "TuningTableError";
}

/** Characters. A table of all operations has some 50,000. */
export const MAX_TABLE_LENGTH = 1_000_000;
const MAX_ENTRIES = 2000;
/** What operations and variants are named with. */
const NAME = /^[\w./:+-]{1,120}$/;
const MAX_TEXT_LENGTH = 500;
const ENGINES: readonly EngineName[] = ["wgpu", "dawn", "browser"];

/** Checks every field, and drops those that a table does not have. @throws TuningTableError */
export function parseTuningTable(text: string, source = "tuning table"): TuningTable {
  const wrong = (what: string, expected: string): TuningTableError =>
    new TuningTableError(`Cannot use the ${source}: ${what}, expected ${expected}`);
  if (text.length > MAX_TABLE_LENGTH) throw wrong(`it has ${text.length} characters`, `at most ${MAX_TABLE_LENGTH}`);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw wrong("it is not JSON", "a JSON object");
  }
  const table = recordOf(json);
  if (!table) throw wrong("it is no object", "a JSON object");
  if (table["format"] !== 1) throw wrong(`its format is ${shown(table["format"])}`, "1");
  const textOf = (from: Readonly<Record<string, unknown>>, field: string): string => {
    const value = from[field];
    if (typeof value !== "string" || value.length > MAX_TEXT_LENGTH)
      throw wrong(`'${field}' is ${shown(value)}`, `a text of at most ${MAX_TEXT_LENGTH} characters`);
    return value;
  };
  const entriesOf = (field: string, value: unknown, limit: number): readonly (readonly [string, unknown])[] => {
    const record = recordOf(value);
    if (!record) throw wrong(`'${field}' is ${shown(value)}`, "an object");
    const entries = Object.entries(record);
    if (entries.length > limit) throw wrong(`'${field}' has ${entries.length} entries`, `at most ${limit}`);
    const bad = entries.find(([name]) => !NAME.test(name));
    if (bad) throw wrong(`'${field}' has the name ${shown(bad[0])}`, "letters, digits and ./:+-_");
    return entries;
  };
  const engine = ENGINES.find((name) => name === table["engine"]);
  if (!engine) throw wrong(`'engine' is ${shown(table["engine"])}`, ENGINES.join(" or "));
  const device = recordOf(table["device"]);
  if (!device) throw wrong(`'device' is ${shown(table["device"])}`, "an object");
  const date = textOf(table, "date");
  if (Number.isNaN(Date.parse(date))) throw wrong(`'date' is ${shown(date)}`, "a date as ISO 8601 has it");
  const choices = entriesOf("choices", table["choices"], MAX_ENTRIES).map(([operation, variant]) => {
    if (typeof variant !== "string" || !NAME.test(variant))
      throw wrong(`the choice of '${operation}' is ${shown(variant)}`, "a variant's name");
    return [operation, variant] as const;
  });
  const times = entriesOf("times", table["times"], MAX_ENTRIES).map(([operation, all]) => {
    const measured = entriesOf(`times of ${operation}`, all, MAX_ENTRIES).map(([variant, ms]) => {
      if (typeof ms !== "number" || !(ms > 0))
        throw wrong(`the time of '${operation}' as '${variant}' is ${shown(ms)}`, "milliseconds above 0");
      return [variant, ms] as const;
    });
    return [operation, Object.fromEntries(measured)] as const;
  });
  return {
    format: 1,
    device: {
      vendor: textOf(device, "vendor"),
      architecture: textOf(device, "architecture"),
      device: textOf(device, "device"),
      description: textOf(device, "description"),
    },
    engine,
    driver: table["driver"] === null ? null : textOf(table, "driver"),
    date,
    version: textOf(table, "version"),
    choices: Object.fromEntries(choices),
    times: Object.fromEntries(times),
  };
}

/** Whether a table was measured on such a device, through such an engine. */
export function fitsDevice(table: Pick<TuningTable, "device" | "engine">, adapter: AdapterDescription, engine: EngineName): boolean {
  const { vendor, architecture, device, description } = table.device;
  return (
    table.engine === engine &&
    vendor === adapter.vendor &&
    architecture === adapter.architecture &&
    device === adapter.device &&
    description === adapter.description
  );
}

export function choicesOf({ choices }: Pick<TuningTable, "choices">): ReadonlyMap<string, string> {
  return new Map(Object.entries(choices));
}

function recordOf(value: unknown): Readonly<Record<string, unknown>> | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined;
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? "missing";
  return text.length > 60 ? `${text.slice(0, 60)}...` : text;
}
