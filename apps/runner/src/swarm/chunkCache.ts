/** Chunks of weights in the person's cache directory, a file each: written whole or not at all, so that a download goes on where it stopped. */
import { randomUUID } from "node:crypto";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { ChunkStore } from "@shoal/swarm/weights";
import { cacheDirectory } from "../tuning/cache.ts";

export function swarmDirectory(): string {
  return join(cacheDirectory(), "swarm");
}

export function chunkDirectory(digest: string): string {
  return join(swarmDirectory(), "chunks", digest);
}

/** File names are the manifest's, which are checked to be plain. */
export function diskChunks(directory: string): ChunkStore {
  const path = (file: string, index: number): string => join(directory, file, String(index));
  return {
    async get(file, index) {
      try {
        return new Uint8Array(await readFile(path(file, index)));
      } catch {
        return undefined;
      }
    },
    put: (file, index, bytes) => writeWhole(path(file, index), bytes),
  };
}

export async function writeWhole(file: string, content: Uint8Array | string, mode?: number): Promise<void> {
  await mkdir(join(file, ".."), { recursive: true });
  const partial = `${file}.${randomUUID()}`;
  try {
    await writeFile(partial, content, mode === undefined ? {} : { mode });
    await rename(partial, file);
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
}
