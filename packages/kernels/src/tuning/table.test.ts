import { readFileSync, readdirSync } from "node:fs";
import type { AdapterDescription } from "@shoal/gpu";
import { describe, expect, it } from "vitest";
import { shippedTable } from "./shipped.ts";
import { MAX_TABLE_LENGTH, type TuningTable, TuningTableError, choicesOf, fitsDevice, parseTuningTable } from "./table.ts";
import { SHIPPED_TABLES } from "./tables/mod.ts";

const TABLE: TuningTable = {
  format: 1,
  device: { vendor: "nvidia", architecture: "hopper", device: "0x2330", description: "NVIDIA H100: 580.1" },
  engine: "dawn",
  driver: null,
  date: "2026-11-23T12:00:00.000Z",
  version: "0.1.0",
  choices: { "matvec/fp8/1": "r4-l32x2-u1" },
  times: { "matvec/fp8/1": { plain: 2, "r4-l32x2-u1": 1.5 } },
};
const ADAPTER: AdapterDescription = { ...TABLE.device, isSoftware: false };
const changed = (change: Record<string, unknown>): string => JSON.stringify({ ...TABLE, ...change });

describe("parseTuningTable()", () => {
  it("gives back what was written, and drops what a table does not have", () => {
    expect(parseTuningTable(JSON.stringify(TABLE))).toEqual(TABLE);
    expect(parseTuningTable(changed({ driver: "580.1", more: { a: 1 } }))).toEqual({ ...TABLE, driver: "580.1" });
  });

  it("keeps names that no code knows: whoever chooses ignores them", () => {
    expect(choicesOf(parseTuningTable(changed({ choices: { "future/op": "v2" } }))).get("future/op")).toBe("v2");
  });

  it("takes '__proto__' for a name like any other", () => {
    const parsed = parseTuningTable(JSON.stringify(TABLE).replace('"matvec/fp8/1":"r4', '"__proto__":"r4'));
    expect(choicesOf(parsed).get("__proto__")).toBe("r4-l32x2-u1");
    expect(Object.getPrototypeOf(parsed.choices)).toBe(Object.prototype);
  });

  it.each([
    ["", "it is not JSON"],
    ["[]", "it is no object"],
    [changed({ format: 2 }), "its format is 2, expected 1"],
    [changed({ engine: "webkit" }), "'engine' is \"webkit\", expected wgpu or dawn or browser"],
    [changed({ device: "nvidia" }), "'device' is \"nvidia\""],
    [changed({ device: { ...TABLE.device, description: "x".repeat(501) } }), "'description'"],
    [changed({ date: "yesterday" }), "'date'"],
    [changed({ version: 1 }), "'version' is 1"],
    [changed({ choices: [] }), "'choices' is []"],
    [changed({ choices: { matvec: 3 } }), "the choice of 'matvec' is 3"],
    [changed({ choices: { "bad name": "x" } }), "'choices' has the name \"bad name\""],
    [changed({ choices: Object.fromEntries(Array.from({ length: 2001 }, (_, i) => [`op${i}`, "x"])) }), "'choices' has 2001 entries"],
    [changed({ times: { matvec: { plain: -1 } } }), "the time of 'matvec' as 'plain' is -1"],
    [changed({ times: { matvec: 1 } }), "'times of matvec' is 1"],
    [" ".repeat(MAX_TABLE_LENGTH + 1), `at most ${MAX_TABLE_LENGTH}`],
  ])("refuses %.40s...", (text, message) => {
    expect(() => parseTuningTable(text, "file 't'")).toThrow(TuningTableError);
    expect(() => parseTuningTable(text, "file 't'")).toThrow(message);
  });
});

it("fitsDevice() takes a table only for the same adapter and engine", () => {
  expect(fitsDevice(TABLE, ADAPTER, "dawn")).toBe(true);
  expect(fitsDevice(TABLE, ADAPTER, "wgpu")).toBe(false);
  expect(fitsDevice(TABLE, { ...ADAPTER, description: "NVIDIA H100: 590" }, "dawn")).toBe(false);
});

describe("shippedTable()", () => {
  const later = { ...TABLE, date: "2026-12-01T00:00:00.000Z" };

  it("takes the latest of the same device, whatever the driver; a browser takes Dawn's", () => {
    const adapter = { ...ADAPTER, description: "another driver" };
    expect(shippedTable(adapter, "dawn", [TABLE, later])).toBe(later);
    expect(shippedTable(adapter, "browser", [TABLE])).toBe(TABLE);
    expect(shippedTable(adapter, "wgpu", [TABLE])).toBeUndefined();
    expect(shippedTable({ ...adapter, architecture: "ampere" }, "dawn", [TABLE])).toBeUndefined();
  });

  it("ships only sound tables, every file of the folder", () => {
    for (const table of SHIPPED_TABLES) expect(parseTuningTable(JSON.stringify(table))).toEqual(table);
    const files = readdirSync(new URL("./tables/", import.meta.url)).filter((file) => file.endsWith(".json"));
    const onDisk = files.map((file) => parseTuningTable(readFileSync(new URL(`./tables/${file}`, import.meta.url), "utf8"), file));
    for (const table of onDisk) expect(SHIPPED_TABLES).toContainEqual(table);
  });
});
