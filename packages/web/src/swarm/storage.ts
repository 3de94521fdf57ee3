/**
 * What a page keeps of swarms, in the origin private file system: `swarm/MANIFEST'S DIGEST/manifest`, and a file for each chunk in `.../chunks`. A chunk that was cut short by a
 * crash does no harm: whoever reads it checks its digest. Written in workers only; listed and deleted in pages too.
 */
import type { ChunkStore, ManifestStore } from "@shoal/swarm";

const FOLDER = "swarm";
const CHUNKS = "chunks";
const MANIFEST = "manifest";
const MAX_NAME = 100;

/** Part of the File System standard that only workers have. */
interface SyncAccessHandle {
  write(bytes: Uint8Array<ArrayBuffer>, options: { readonly at: number }): number;
  truncate(size: number): void;
  flush(): void;
  close(): void;
}

type WorkerFileHandle = FileSystemFileHandle & { createSyncAccessHandle(): Promise<SyncAccessHandle> };
/** Not all of TypeScript's libraries know that directories can be listed. */
type Directory = FileSystemDirectoryHandle & { entries(): AsyncIterable<[string, FileSystemHandle]> };

/** A swarm's model that is kept, in part or whole. */
export interface StoredSwarm {
  readonly digest: string;
  readonly name: string;
  readonly bytes: number;
}

export function opfsManifests(): ManifestStore {
  return {
    async get(digest) {
      const folder = await folderOf(digest, false);
      const bytes = folder && (await readFile(folder, MANIFEST));
      return bytes ? new TextDecoder().decode(bytes) : undefined;
    },
    put: async (digest, text) => writeFile(await made(digest), MANIFEST, new TextEncoder().encode(text)),
  };
}

export async function opfsChunks(digest: string): Promise<ChunkStore> {
  const folder = await (await made(digest)).getDirectoryHandle(CHUNKS, { create: true });
  // File names are the manifest's, which are checked to be plain, and have no tilde.
  const name = (file: string, index: number): string => `${file}~${index}`;
  return {
    get: (file, index) => readFile(folder, name(file, index)),
    put: (file, index, bytes) => writeFile(folder, name(file, index), bytes),
  };
}

export async function storedSwarms(): Promise<readonly StoredSwarm[]> {
  const all = await root(false);
  const found: StoredSwarm[] = [];
  if (!all) return found;
  for await (const [digest, entry] of all.entries()) {
    if (entry.kind !== "directory") continue;
    const handle: FileSystemDirectoryHandle = entry;
    const manifest = await readFile(handle, MANIFEST);
    const chunks = await orUndefined<FileSystemDirectoryHandle>(handle.getDirectoryHandle(CHUNKS));
    let bytes = manifest?.byteLength ?? 0;
    if (chunks)
      for await (const [, file] of (chunks as Directory).entries()) if (file.kind === "file") bytes += (await file.getFile()).size;
    found.push({ digest, name: nameIn(manifest) ?? digest.slice(0, 8), bytes });
  }
  return found;
}

export async function deleteSwarm(digest: string): Promise<void> {
  await orUndefined((await root(false))?.removeEntry(digest, { recursive: true }) ?? Promise.resolve());
}

function nameIn(manifest: Uint8Array<ArrayBuffer> | undefined): string | undefined {
  try {
    const { name } = JSON.parse(new TextDecoder().decode(manifest)) as { readonly name?: unknown };
    return typeof name === "string" ? name.slice(0, MAX_NAME) : undefined;
  } catch {
    return undefined;
  }
}

async function root(create: boolean): Promise<Directory | undefined> {
  const top = await navigator.storage.getDirectory();
  return orUndefined(top.getDirectoryHandle(FOLDER, { create }) as Promise<Directory>);
}

async function folderOf(digest: string, create: boolean): Promise<FileSystemDirectoryHandle | undefined> {
  return orUndefined((await root(create))?.getDirectoryHandle(digest, { create }) ?? Promise.resolve(undefined));
}

async function made(digest: string): Promise<FileSystemDirectoryHandle> {
  const folder = await folderOf(digest, true);
  if (!folder) throw new Error("Cannot keep weights: this browser gives no storage here");
  return folder;
}

async function readFile(folder: FileSystemDirectoryHandle, name: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const handle = await orUndefined(folder.getFileHandle(name));
  const file = handle && (await orUndefined(handle.getFile()));
  return file && new Uint8Array(await file.arrayBuffer());
}

async function writeFile(folder: FileSystemDirectoryHandle, name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  const handle = (await folder.getFileHandle(name, { create: true })) as WorkerFileHandle;
  let access: SyncAccessHandle;
  try {
    access = await handle.createSyncAccessHandle();
  } catch (error) {
    // Another tab writes the same bytes.
    if (error instanceof DOMException && error.name === "NoModificationAllowedError") return;
    throw error;
  }
  try {
    access.truncate(0);
    for (let at = 0; at < bytes.byteLength;) at += access.write(bytes.subarray(at), { at });
    access.flush();
  } finally {
    access.close();
  }
}

async function orUndefined<T>(finding: Promise<T>): Promise<T | undefined> {
  try {
    return await finding;
  } catch (error) {
    if (error instanceof DOMException && error.name === "NotFoundError") return undefined;
    throw error;
  }
}
