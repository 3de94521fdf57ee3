/** What of a model is kept on this device: its list, its files, and a checkpoint over them. */
import { type CheckpointSource, openCheckpoint } from "@shoal/checkpoint";
import { storedFiles } from "./download.ts";
import { WebError } from "./errors.ts";
import { LISTING_NAME, type ModelListing, parseListing } from "./manifest.ts";
import type { ModelSource } from "./protocol.ts";
import { folderManifest, listFiles, storageId } from "./sources.ts";
import { type ModelStorage, opfsStorage } from "./storage.ts";

export interface Kept {
  readonly id: string;
  readonly listing: ModelListing;
  readonly storage: ModelStorage;
}

/** The files that are kept, or where they come from, if `stream` says so. @throws WebError */
export async function openModel(source: ModelSource, stream: boolean, signal?: AbortSignal): Promise<CheckpointSource> {
  const options = signal ? { signal } : {};
  if (source.kind === "files") return openCheckpoint(source.files, options);
  const { listing, storage } = await keptModel(source, signal);
  const files = await storedFiles(listing.files, storage);
  if (files) return openCheckpoint(files, options);
  if (!stream) throw new WebError("DownloadError", "Cannot load the model: it is not downloaded, expected all of its files");
  return openCheckpoint(listing.base, options);
}

/**
 * The list of the model's files. A folder with a manifest is asked on every visit, so that a new version is seen; what is kept counts where there is no network, and
 * for all that was found without a manifest.
 */
export async function keptModel(source: ModelListing["source"], signal?: AbortSignal): Promise<Kept> {
  const id = storageId(source);
  const storage = await opfsStorage(id);
  const kept = await keptListing(storage);
  if (kept) {
    const files = source.kind === "folder" ? await orOffline(folderManifest(source.url, { signal })) : null;
    return { id, storage, listing: files ? { ...kept, files } : kept };
  }
  try {
    return { id, storage, listing: await listFiles(source, { signal }) };
  } catch (error) {
    signal?.throwIfAborted();
    if (!(error instanceof TypeError)) throw error;
    const message = `Cannot fetch the list of the model's files: ${error.message}; none is kept from an earlier visit`;
    throw new WebError("DownloadError", message, { cause: error });
  }
}

/** Undefined where there is no network. */
async function orOffline<T>(asking: Promise<T>): Promise<T | null> {
  try {
    return await asking;
  } catch (error) {
    if (error instanceof TypeError) return null;
    throw error;
  }
}

async function keptListing(storage: ModelStorage): Promise<ModelListing | null> {
  const text = await (await storage.read(LISTING_NAME))?.text();
  if (text === undefined) return null;
  try {
    return parseListing(text);
  } catch {
    // As if it were not there: it is written anew.
    return null;
  }
}
