/** A folder's address as a place where a swarm's model may lie: a source of chunks, and of the manifest where nobody has told it yet. */
import { httpFiles } from "@shoal/checkpoint";
import { type ChunkSource, type NamedManifest, filesSource, makeManifest } from "@shoal/swarm";
import { manifestBytes } from "../manifest.ts";
import { listFiles, sourceOf } from "../sources.ts";

/** Of a larger model the manifest is not made by reading all of it: some peer has it. */
const MAX_READ = 2 ** 30;
/** As `shoal swarm create` chooses. */
const FILES = /\.(?:safetensors|json|jinja)$/;
const DIGESTS = "manifest.json";

export function addressSource(address: string): ChunkSource {
  return filesSource(httpFiles(address));
}

/** Undefined where the address has no model, or a large one. Reads all of it. */
export async function manifestAt(address: string, name: string, signal: AbortSignal): Promise<NamedManifest | undefined> {
  try {
    const { base, files } = await listFiles(sourceOf(address), { signal });
    if (manifestBytes(files) > MAX_READ) return undefined;
    const names = [...files.keys()].filter((file) => FILES.test(file) && file !== DIGESTS);
    return await makeManifest(name, httpFiles(base), names, { signal });
  } catch {
    signal.throwIfAborted();
    return undefined;
  }
}
