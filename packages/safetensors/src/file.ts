/**
 * Files of this machine, through `node:fs/promises` (Node and Deno alike). Exported as `@shoal/safetensors/file`, so that a page never sees
 * `node:fs`. Reads are positioned, so one handle serves many at once; a read cannot be taken back, so an abort is noticed when it ends.
 */
import { randomUUID } from "node:crypto";
import { open, rename, rm, type FileHandle } from "node:fs/promises";

import { readError, SafetensorsError } from "./error.ts";
import { checkOpen, checkRange, memoryFor, type ByteSource } from "./source.ts";
import { writeSafetensors, type WriteEntry, type WriteOptions } from "./writer.ts";

/** @throws {SafetensorsError} `not-found`, or `read-failed` where the path is no regular file or may not be read. */
export async function fileSource(path: string, signal?: AbortSignal): Promise<ByteSource> {
  signal?.throwIfAborted();
  let handle: FileHandle;
  try {
    handle = await open(path, "r");
  } catch (cause) {
    const code = errorCode(cause);
    if (code === "ENOENT" || code === "ENOTDIR") {
      throw readError({ code: "not-found", file: path, actual: "does not exist", expected: "a file", cause });
    }
    throw readError({ code: "read-failed", file: path, actual: `cannot be opened (${code})`, expected: "a readable file", cause });
  }
  try {
    const stat = await handle.stat();
    if (stat.isFile()) return handleSource(handle, path, stat.size);
    throw readError({ code: "read-failed", file: path, actual: "is no regular file", expected: "a regular file" });
  } catch (error) {
    await handle.close();
    throw error;
  }
}

function handleSource(handle: FileHandle, name: string, size: number): ByteSource {
  let open = true;
  return Object.freeze({
    name,
    size,
    async read(offset: number, length: number, signal?: AbortSignal, into?: Uint8Array<ArrayBuffer>) {
      signal?.throwIfAborted();
      checkOpen({ name }, open);
      checkRange({ name, size }, offset, length);
      const bytes = memoryFor({ name }, length, into);
      // One call may give less than asked: the kernel stops at 2 GiB.
      for (let done = 0; done < length;) {
        const bytesRead = await readSome(handle, bytes, done, offset + done, name);
        if (bytesRead === 0) {
          throw readError({ code: "read-failed", file: name, actual: `ends at byte ${offset + done}`, expected: `its ${size} bytes` });
        }
        done += bytesRead;
        signal?.throwIfAborted();
      }
      return bytes;
    },
    async close() {
      if (open) {
        open = false;
        await handle.close();
      }
    },
  });
}

async function readSome(handle: FileHandle, bytes: Uint8Array, start: number, position: number, name: string): Promise<number> {
  try {
    return (await handle.read(bytes, start, bytes.byteLength - start, position)).bytesRead;
  } catch (cause) {
    const actual = `failed at byte ${position} (${errorCode(cause)})`;
    throw readError({ code: "read-failed", file: name, actual, expected: "a readable file", cause });
  }
}

/**
 * Writes beside `path` and renames when all bytes are on disk: whatever was at `path` stays whole until then, and stays if this fails.
 * @throws {SafetensorsError}
 */
export async function writeSafetensorsFile(path: string, entries: readonly WriteEntry[], options: WriteOptions = {}): Promise<void> {
  const partial = `${path}.${randomUUID()}.partial`;
  let handle: FileHandle | null = null;
  try {
    handle = await open(partial, "wx");
    const target = handle;
    await writeSafetensors({ name: path, write: (bytes) => writeAll(target, bytes) }, entries, options);
    await handle.sync();
    await handle.close();
    handle = null;
    await rename(partial, path);
  } catch (cause) {
    await handle?.close().catch(() => {});
    await rm(partial, { force: true });
    const code = errorCode(cause);
    if (cause instanceof SafetensorsError || code === "") throw cause;
    throw new SafetensorsError("write", {
      code: "write-failed",
      file: path,
      actual: `failed (${code})`,
      expected: "a writable place",
      cause,
    });
  }
}

async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.byteLength;) done += (await handle.write(bytes, done, bytes.byteLength - done)).bytesWritten;
}

/** 'ENOENT' and the like; '' for errors that are not the system's. */
function errorCode(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
}
