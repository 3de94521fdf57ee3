/** Files that last between visits. In a page this is the origin private file system; tests give one that lives in memory. */

/** A file that grows at its end. What was appended is there after a crash. */
export interface AppendFile {
  readonly size: number;
  append(bytes: Uint8Array<ArrayBuffer>): void;
  clear(): void;
  close(): void;
}

export interface ModelStorage {
  /** Null where there is none. */
  read(name: string): Promise<File | null>;
  /** Made where there is none. One at a time for each name. */
  open(name: string): Promise<AppendFile>;
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

/** Where the files of the model at `base` are kept. In a worker only. */
export async function opfsStorage(base: URL): Promise<ModelStorage> {
  const root = await navigator.storage.getDirectory();
  const models = await root.getDirectoryHandle("models", { create: true });
  const directory = await models.getDirectoryHandle(encodeURIComponent(`${base.host}${base.pathname}`), { create: true });
  return {
    async read(name) {
      try {
        return await (await directory.getFileHandle(name)).getFile();
      } catch (error) {
        if (error instanceof DOMException && error.name === "NotFoundError") return null;
        throw error;
      }
    },
    async open(name) {
      const handle = (await directory.getFileHandle(name, { create: true })) as WorkerFileHandle;
      return appendFile(await handle.createSyncAccessHandle());
    },
  };
}

function appendFile(handle: SyncAccessHandle): AppendFile {
  return {
    get size() {
      return handle.getSize();
    },
    append(bytes) {
      const at = handle.getSize();
      for (let done = 0; done < bytes.byteLength;) done += handle.write(bytes.subarray(done), { at: at + done });
    },
    clear: () => handle.truncate(0),
    close() {
      handle.flush();
      handle.close();
    },
  };
}
