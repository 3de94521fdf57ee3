/** Files that last between visits. In a page this is the origin private file system; tests give one that lives in memory. */
import { WebError } from "./errors.ts";
import { LISTING_NAME, type ModelListing, manifestBytes, parseListing } from "./manifest.ts";

/** A file that grows at its end. What was appended is there after a crash. */
export interface AppendFile {
  readonly size: number;
  append(bytes: Uint8Array<ArrayBuffer>): void;
  clear(): void;
  close(): void;
}

export interface ModelStorage {
  /** Why nothing can be kept here: the disk is full, or the browser gives no storage. Nothing is found then, and no file opens. */
  readonly refusal?: Error;
  /** Null where there is none. */
  read(name: string): Promise<File | null>;
  /** Made where there is none. One at a time for each name. */
  open(name: string): Promise<AppendFile>;
  names(): Promise<readonly string[]>;
  remove(name: string): Promise<void>;
}

/** A model that is kept, in whole or in part. */
export interface StoredModel {
  readonly id: string;
  readonly name: string;
  readonly source: ModelListing["source"];
  /** That it takes. */
  readonly bytes: number;
  readonly totalBytes: number;
  readonly complete: boolean;
}

/** Part of the File System standard that only workers have. */
interface SyncAccessHandle {
  getSize(): number;
  write(bytes: Uint8Array<ArrayBuffer>, options: { readonly at: number }): number;
  truncate(size: number): void;
  flush(): void;
  close(): void;
}

type WorkerFileHandle = FileSystemFileHandle & { createSyncAccessHandle(): Promise<SyncAccessHandle> };
/** Not all of TypeScript's libraries know that directories can be listed. */
type Directory = FileSystemDirectoryHandle & { entries(): AsyncIterable<[string, FileSystemHandle]> };

const FOLDER = "models";

/** The lock that whoever changes a model's files holds, in whatever tab. */
export function modelLock(id: string): string {
  return `shoal-model:${id}`;
}

/** Where the files of a model are kept, or a place that refuses. In a worker only. */
export async function opfsStorage(id: string): Promise<ModelStorage> {
  let directory: Directory;
  try {
    directory = await modelFolder(id);
  } catch (cause) {
    // Browsers differ in what they call it.
    if (!(cause instanceof DOMException)) throw cause;
    return refusing(new WebError("QuotaError", `Cannot keep models: the browser gives this site no storage (${cause.message})`, { cause }));
  }
  return {
    read: (name) => fileIn(directory, name),
    async open(name) {
      const handle = (await directory.getFileHandle(name, { create: true })) as WorkerFileHandle;
      return appendFile(await handle.createSyncAccessHandle());
    },
    async names() {
      const names: string[] = [];
      for await (const [name] of directory.entries()) names.push(name);
      return names;
    },
    remove: (name) => ignoreMissing(directory.removeEntry(name)),
  };
}

/** All models that are kept here. Works in pages too. */
export async function storedModels(): Promise<readonly StoredModel[]> {
  const models = await modelsFolder();
  const found: StoredModel[] = [];
  if (!models) return found;
  for await (const [id, handle] of models.entries()) {
    if (handle.kind !== "directory") continue;
    const directory = handle as Directory;
    const sizes = new Map<string, number>();
    for await (const [name, file] of directory.entries()) if (file.kind === "file") sizes.set(name, (await file.getFile()).size);
    const bytes = [...sizes.values()].reduce((sum, size) => sum + size, 0);
    const listing = await keptListing(directory);
    // Without a list nothing can be made of the files, but they take room and can be deleted.
    const source = listing?.source ?? { kind: "folder", url: `https://${decodeURIComponent(id)}` };
    const complete = listing !== null && [...listing.files].every(([name, file]) => sizes.get(name) === file.bytes);
    const totalBytes = listing === null ? bytes : manifestBytes(listing.files);
    if (bytes > 0) found.push({ id, name: listing?.name ?? decodeURIComponent(id), source, bytes, totalBytes, complete });
  }
  return found;
}

/** @throws WebError named `BusyError` while a tab fetches it */
export async function deleteModel(id: string): Promise<void> {
  await navigator.locks.request(modelLock(id), { ifAvailable: true }, async (lock) => {
    if (!lock) throw new WebError("BusyError", "Cannot delete the model: another tab is fetching it, expected it to be paused there");
    const models = await modelsFolder();
    if (models) await ignoreMissing(models.removeEntry(id, { recursive: true }));
  });
}

function refusing(refusal: WebError): ModelStorage {
  return {
    refusal,
    read: () => Promise.resolve(null),
    open: () => Promise.reject(refusal),
    names: () => Promise.resolve([]),
    remove: () => Promise.resolve(),
  };
}

async function modelFolder(id: string): Promise<Directory> {
  const root = await navigator.storage.getDirectory();
  const models = await root.getDirectoryHandle(FOLDER, { create: true });
  return models.getDirectoryHandle(id, { create: true });
}

async function modelsFolder(): Promise<Directory | null> {
  const root = await navigator.storage.getDirectory();
  return orNull(root.getDirectoryHandle(FOLDER)) as Promise<Directory | null>;
}

async function keptListing(directory: Directory): Promise<ModelListing | null> {
  const file = await fileIn(directory, LISTING_NAME);
  if (!file) return null;
  try {
    return parseListing(await file.text());
  } catch {
    return null;
  }
}

async function fileIn(directory: Directory, name: string): Promise<File | null> {
  const handle = await orNull(directory.getFileHandle(name));
  return handle && orNull(handle.getFile());
}

async function orNull<T>(finding: Promise<T>): Promise<T | null> {
  try {
    return await finding;
  } catch (error) {
    if (isNotFound(error)) return null;
    throw error;
  }
}

async function ignoreMissing(removing: Promise<void>): Promise<void> {
  try {
    await removing;
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
}

function isNotFound(error: unknown): boolean {
  return error instanceof DOMException && error.name === "NotFoundError";
}

function appendFile(handle: SyncAccessHandle): AppendFile {
  return {
    get size() {
      return handle.getSize();
    },
    append(bytes) {
      const at = handle.getSize();
      for (let done = 0; done < bytes.byteLength;) {
        const written = handle.write(bytes.subarray(done), { at: at + done });
        if (written <= 0) throw new DOMException("Nothing more can be written", "QuotaExceededError");
        done += written;
      }
    },
    clear: () => handle.truncate(0),
    close() {
      try {
        handle.flush();
      } finally {
        handle.close();
      }
    },
  };
}
