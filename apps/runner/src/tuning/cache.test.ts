import { mkdir, mkdtemp, readFile, readdir, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { OpenedAdapter } from "@shoal/gpu";
import type { TuningTable } from "@shoal/model/tuning";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { cacheDirectory, readTable, tableFile, writeTable } from "./cache.ts";
import { tuningFor, tuningLine } from "./choices.ts";

const DEVICE = { vendor: "nvidia", architecture: "hopper", device: "0x2330", description: "NVIDIA H100 80GB: 580.1" };
const OPENED: OpenedAdapter = { adapter: { ...DEVICE, isSoftware: false }, engine: "dawn" };
const TABLE: TuningTable = {
  format: 1,
  device: DEVICE,
  engine: "dawn",
  driver: "580.1",
  date: "2026-11-23T12:00:00.000Z",
  version: "0.1.0",
  choices: { "matvec/fp8/1": "plain" },
  times: { "matvec/fp8/1": { plain: 1.5 } },
};

let directory = "";
let file = "";
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "tuning-"));
  file = tableFile(OPENED, directory);
});
afterEach(() => rm(directory, { recursive: true }));

describe("cacheDirectory()", () => {
  it.each([
    ["linux", {}, "/home/me/.cache/shoal"],
    ["linux", { XDG_CACHE_HOME: "/var/cache/me" }, "/var/cache/me/shoal"],
    ["linux", { XDG_CACHE_HOME: "relative" }, "/home/me/.cache/shoal"],
    ["linux", { XDG_CACHE_HOME: "/x", SHOAL_CACHE_DIR: "/own" }, "/own"],
    ["darwin", {}, "/home/me/Library/Caches/shoal"],
    ["windows", { LOCALAPPDATA: "/local" }, "/local/shoal/cache"],
  ])("on %s with %j is %s", (system, environment, expected) => {
    expect(cacheDirectory({ system, environment, home: "/home/me" })).toBe(expected);
  });
});

describe("tableFile()", () => {
  it("differs by engine and by anything that names the adapter", () => {
    const files = [
      OPENED,
      { ...OPENED, engine: "wgpu" as const },
      { ...OPENED, adapter: { ...OPENED.adapter, description: "NVIDIA H100 80GB: 590" } },
      { ...OPENED, adapter: { ...OPENED.adapter, device: "0x2331" } },
    ].map((opened) => tableFile(opened, "/c"));
    expect(new Set(files).size).toBe(4);
    expect(files[0]).toMatch(/^\/c\/tuning\/nvidia-h100-80gb-580-1-dawn-[0-9a-f]{12}\.json$/);
  });

  it("stays in its directory whatever the adapter calls itself", () => {
    const adapter = { ...OPENED.adapter, description: "../../etc/passwd\0\n" };
    expect(dirname(tableFile({ ...OPENED, adapter }, "/c"))).toBe("/c/tuning");
  });
});

describe("readTable() and writeTable()", () => {
  it("gives back what was written, replaces it, and leaves no other file", async () => {
    expect(await readTable(file, OPENED)).toBeNull();
    await writeTable(file, TABLE);
    await writeTable(file, { ...TABLE, version: "0.2.0" });
    expect(await readTable(file, OPENED)).toEqual({ ...TABLE, version: "0.2.0" });
    expect(await readdir(dirname(file))).toHaveLength(1);
    expect(await readFile(file, "utf8")).toMatch(/\n$/);
  });

  it("refuses what is damaged, too large, of another device, or no file", async () => {
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, '{"format": 1');
    await expect(readTable(file, OPENED)).rejects.toThrow(/Cannot use the tuning table '.*': it is not JSON/);
    await truncate(file, 2 ** 32);
    await expect(readTable(file, OPENED)).rejects.toThrow("it has 4294967296 bytes, expected at most 4000000");
    await writeTable(file, { ...TABLE, engine: "wgpu" });
    await expect(readTable(file, OPENED)).rejects.toThrow("through wgpu, expected this adapter");
    await rm(file);
    await mkdir(file);
    await expect(readTable(file, OPENED)).rejects.toThrow("it is no file");
  });

  it("says where it cannot write", async () => {
    await writeFile(join(directory, "tuning"), "a file in the way");
    await expect(writeTable(file, TABLE)).rejects.toThrow(/Cannot write '.*': it failed .*, expected a writable cache directory/);
    expect(await readTable(file, OPENED)).toBeNull();
  });
});

describe("tuningFor()", () => {
  it("takes the person's own table", async () => {
    await writeTable(file, TABLE);
    const { choices, report } = await tuningFor(OPENED, true, directory);
    expect(choices).toEqual(new Map([["matvec/fp8/1", "plain"]]));
    expect(report).toEqual({ source: "own", file, date: TABLE.date, version: "0.1.0", operations: 1, problem: null });
    expect(tuningLine(report)).toBe("1 operation, measured here on 2026-11-23 with 0.1.0");
  });

  it("goes on without a table that cannot be used, and says why", async () => {
    await writeTable(file, TABLE);
    await writeFile(file, "[]");
    const { choices, report } = await tuningFor(OPENED, true, directory);
    expect(choices.size).toBe(0);
    expect(report).toMatchObject({ source: "none", problem: expect.stringContaining("it is no object") as string });
  });

  it("reads nothing where it is not wanted", async () => {
    await writeTable(file, TABLE);
    const { choices, report } = await tuningFor(OPENED, false, directory);
    expect([choices.size, report.source, tuningLine(report)]).toEqual([0, "off", "off"]);
  });
});
