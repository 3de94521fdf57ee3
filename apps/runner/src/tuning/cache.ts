/**
 * Tuning tables in the person's cache directory, one file for each adapter and engine. Whoever finds a file that is no good goes on without it: it is only ever faster
 * with one.
 */
import { createHash, randomUUID } from "node:crypto";
import { mkdir, open, rename, rm, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import type { OpenedAdapter } from "@shoal/gpu";
import { MAX_TABLE_LENGTH, type TuningTable, TuningTableError, fitsDevice, parseTuningTable } from "@shoal/model/tuning";
import { RunnerError } from "../errors.ts";

/** A character takes up to four. */
const MAX_TABLE_BYTES = 4 * MAX_TABLE_LENGTH;

export interface CachePlace {
  readonly system: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly home: string;
}

const here = (): CachePlace => ({ system: Deno.build.os, environment: process.env, home: homedir() });

/** Where this system keeps what can be made again: SHOAL_CACHE_DIR wins, then XDG_CACHE_HOME, on every system. */
export function cacheDirectory({ system, environment, home }: CachePlace = here()): string {
  const own = environment["SHOAL_CACHE_DIR"] ?? "";
  if (own !== "") return own;
  const xdg = environment["XDG_CACHE_HOME"] ?? "";
  // A relative path is to be ignored, says the XDG specification.
  if (/^(?:\/|[A-Za-z]:[/\\])/.test(xdg)) return join(xdg, "shoal");
  if (system === "darwin") return join(home, "Library", "Caches", "shoal");
  if (system === "windows") return join(environment["LOCALAPPDATA"] ?? join(home, "AppData", "Local"), "shoal", "cache");
  return join(home, ".cache", "shoal");
}

/** "tuning/nvidia-h100-80gb-hbm3-dawn-1f0c5a2b9d3e.json" in the cache directory. */
export function tableFile({ adapter, engine }: OpenedAdapter, directory: string = cacheDirectory()): string {
  const { vendor, architecture, device, description } = adapter;
  const identity = JSON.stringify([vendor, architecture, device, description, engine]);
  const hash = createHash("sha256").update(identity).digest("hex").slice(0, 12);
  const name = (description || [vendor, device || architecture].join(" "))
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-+|-+$/g, "")
    .slice(0, 60);
  return join(directory, "tuning", `${name || "adapter"}-${engine}-${hash}.json`);
}

/** Null where there is none. @throws TuningTableError where there is one that cannot be used */
export async function readTable(file: string, opened: OpenedAdapter): Promise<TuningTable | null> {
  const source = `tuning table '${file}'`;
  let text: string;
  try {
    const handle = await open(file, "r");
    try {
      const info = await handle.stat();
      if (!info.isFile()) throw new TuningTableError(`Cannot use the ${source}: it is no file, expected a file that 'shoal tune' wrote`);
      if (info.size > MAX_TABLE_BYTES)
        throw new TuningTableError(`Cannot use the ${source}: it has ${info.size} bytes, expected at most ${MAX_TABLE_BYTES}`);
      const bytes = new Uint8Array(info.size);
      let filled = 0;
      for (let read = -1; read !== 0 && filled < bytes.byteLength; filled += read)
        read = (await handle.read(bytes, filled, bytes.byteLength - filled, filled)).bytesRead;
      text = new TextDecoder().decode(bytes.subarray(0, filled));
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (error instanceof TuningTableError) throw error;
    const code = codeOf(error);
    if (code === "ENOENT" || code === "ENOTDIR") return null;
    throw new TuningTableError(`Cannot use the ${source}: reading it failed (${code}), expected a readable file`, { cause: error });
  }
  const table = parseTuningTable(text, source);
  if (fitsDevice(table, opened.adapter, opened.engine)) return table;
  throw new TuningTableError(
    `Cannot use the ${source}: it was measured on '${table.device.description}' through ${table.engine}, expected this adapter`,
  );
}

/** Whole or not at all: a reader never sees half a table. @throws RunnerError */
export async function writeTable(file: string, table: TuningTable): Promise<void> {
  const partial = `${file}.${randomUUID()}.partial`;
  try {
    await mkdir(join(file, ".."), { recursive: true });
    await writeFile(partial, `${JSON.stringify(table, null, 2)}\n`, { flag: "wx" });
    await rename(partial, file);
  } catch (cause) {
    await rm(partial, { force: true }).catch(() => {});
    throw new RunnerError(
      `Cannot write '${file}': it failed (${codeOf(cause)}), expected a writable cache directory (SHOAL_CACHE_DIR names one)`,
      {
        cause,
      },
    );
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : String(error);
}
