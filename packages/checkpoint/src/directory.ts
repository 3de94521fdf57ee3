/**
 * Checkpoints on this machine (Node and Deno). Exported as `@shoal/checkpoint/directory`, so that a page never sees `node:fs`.
 */
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";

import { fileSource } from "@shoal/safetensors/file";

import { CheckpointError } from "./error.ts";
import { httpFiles, hubBaseUrl, isHubId, orNull, readWhole, type CheckpointFiles } from "./files.ts";
import { openCheckpoint, type CheckpointSource, type OpenOptions } from "./open.ts";

export function directoryFiles(path: string): CheckpointFiles {
  return {
    location: path,
    open: (name, signal) => orNull(fileSource(join(path, name), signal)),
    async read(name, maxBytes, signal) {
      const source = await this.open(name, signal);
      return source === null ? null : await readWhole(source, maxBytes, signal);
    },
    list: () => readdir(path),
  };
}

/** @throws {CheckpointError} where `path` is no directory, and as `openCheckpoint()` */
export async function openDirectory(path: string, options: OpenOptions = {}): Promise<CheckpointSource> {
  if (await isDirectory(path)) return await openCheckpoint(directoryFiles(path), options);
  throw new CheckpointError("location", path, "it", "is not a directory", "the directory of a checkpoint");
}

/**
 * As a person writes it on a command line: a directory if there is one of that name, else an http(s) address or a hub's `org/name`.
 * @throws {CheckpointError} as `locationFiles()` and `openCheckpoint()`
 */
export async function openLocation(location: string, options: OpenOptions = {}): Promise<CheckpointSource> {
  return await openCheckpoint(await locationFiles(location, options), options);
}

/** The files there. @throws {CheckpointError} where it is none of these */
export async function locationFiles(location: string, { http, hub }: Pick<OpenOptions, "http" | "hub"> = {}): Promise<CheckpointFiles> {
  if (/^https?:\/\//i.test(location) && URL.canParse(location)) return httpFiles(location, http);
  if (await isDirectory(location)) return directoryFiles(location);
  if (isHubId(location)) return httpFiles(hubBaseUrl(location, hub), http);
  const actual = (await exists(location)) ? "is a file" : "does not exist";
  throw new CheckpointError("location", location, "it", actual, "a directory, an http(s) address or 'organization/name'");
}

export async function isDirectory(path: string): Promise<boolean> {
  return await stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}
