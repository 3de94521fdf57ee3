/**
 * A checkpoint as a flat set of named files, wherever they are. This file holds those that need no platform: a base URL, a hub repository
 * behind such a URL, and the files that a person picked in a browser. `directory.ts` has the directory. Knows nothing of what the files mean.
 */
import { blobSource, httpBytes, httpSource, SafetensorsError, type ByteSource, type HttpOptions } from "@shoal/safetensors";

import { CheckpointError } from "./error.ts";

export interface CheckpointFiles {
  /** For messages. */
  readonly location: string;
  /** For ranged reads; null where there is no such file. */
  open(name: string, signal?: AbortSignal): Promise<ByteSource | null>;
  /** A small file whole; null where there is no such file. */
  read(name: string, maxBytes: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer> | null>;
  /** All names, or null where they cannot be listed. */
  list(signal?: AbortSignal): Promise<readonly string[] | null>;
}

/** The hub that `org/name` refers to unless told otherwise. */
export const DEFAULT_HUB_ENDPOINT = "https://huggingface.co";

export interface HubOptions {
  readonly endpoint?: string;
  readonly revision?: string;
}

const HUB_ID = /^[A-Za-z0-9][\w.-]{0,95}\/[A-Za-z0-9][\w.-]{0,95}$/;

export function isHubId(text: string): boolean {
  return HUB_ID.test(text) && !text.includes("..");
}

/** Where the files of the repository `org/name` lie. @throws {CheckpointError} */
export function hubBaseUrl(repo: string, options: HubOptions = {}): URL {
  if (!isHubId(repo)) throw new CheckpointError("location", repo, "the repository id", `is '${repo}'`, "'organization/name'");
  const { endpoint = DEFAULT_HUB_ENDPOINT, revision = "main" } = options;
  return new URL(`${repo}/resolve/${encodeURIComponent(revision)}/`, endpoint.endsWith("/") ? endpoint : `${endpoint}/`);
}

export function httpFiles(base: string | URL, options: HttpOptions = {}): CheckpointFiles {
  const root = new URL(base);
  if (!root.pathname.endsWith("/")) root.pathname += "/";
  const urlOf = (name: string) => {
    const url = new URL(encodeURIComponent(name), root);
    // A signature or token on the base belongs to each file below it.
    url.search = root.search;
    return url;
  };
  return {
    location: root.origin + root.pathname,
    open: (name, signal) => orNull(httpSource(urlOf(name), options, signal)),
    read: (name, maxBytes, signal) => orNull(httpBytes(urlOf(name), maxBytes, options, signal)),
    list: () => Promise.resolve(null),
  };
}

/** Files by their plain names: the folder that a browser's file picker puts before them does not count. */
export function pickedFiles(files: Iterable<File>): CheckpointFiles {
  const byName = new Map(Array.from(files, (file) => [file.name, file]));
  return {
    location: "picked files",
    open(name) {
      const file = byName.get(name);
      return Promise.resolve(file === undefined ? null : blobSource(file, name));
    },
    async read(name, maxBytes, signal) {
      const source = await this.open(name);
      return source === null ? null : await readWhole(source, maxBytes, signal);
    },
    list: () => Promise.resolve([...byName.keys()]),
  };
}

/** Reads and closes. @throws {CheckpointError} where it is larger than `maxBytes`. */
export async function readWhole(source: ByteSource, maxBytes: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
  try {
    if (source.size > maxBytes) {
      throw new CheckpointError("unreadable", source.name, "it", `has ${source.size} bytes`, `at most ${maxBytes}`);
    }
    return await source.read(0, source.size, signal);
  } finally {
    await source.close();
  }
}

export async function orNull<T>(opening: Promise<T>): Promise<T | null> {
  try {
    return await opening;
  } catch (error) {
    if (error instanceof SafetensorsError && error.code === "not-found") return null;
    throw error;
  }
}
