/**
 * A model as chunks with digests, so that bytes may come from anybody: files, each a run of chunks of one size, the last one shorter. The SHA-256 of its text is the model's name in
 * a swarm.
 */
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";
import type { CheckpointFiles } from "@shoal/checkpoint";
import { z } from "zod";
import { SwarmError, malformed } from "../errors.ts";
import { parseJson } from "../json.ts";

/** Bytes: 700 GB in chunks of 4 MiB have 11 MB of digests. */
export const MAX_MANIFEST_BYTES = 24 * 2 ** 20;
const MAX_FILES = 4096;
/** A layer of a small model is read without much around it; of a large one with few requests. */
const SMALL_CHUNK = 2 ** 18;
const LARGE_CHUNK = 2 ** 22;
const SMALL_MODEL = 2 ** 30;

const digest = z.string().regex(/^[0-9a-f]{64}$/);
const manifestSchema = z.strictObject({
  version: z.literal(1),
  name: z.string().min(1).max(100),
  chunkBytes: z.union([z.literal(SMALL_CHUNK), z.literal(LARGE_CHUNK)]),
  files: z.record(
    z.string().regex(/^[A-Za-z0-9][\w.-]{0,127}$/),
    z.strictObject({
      bytes: z
        .int()
        .min(0)
        .max(2 ** 50),
      chunks: z.array(digest),
    }),
  ),
});

export type Manifest = z.infer<typeof manifestSchema>;

/** Of a model, as it came. */
export interface NamedManifest {
  readonly text: string;
  readonly digest: string;
  readonly manifest: Manifest;
}

/** @param expected the digest that the invite names @throws SwarmError malformed or bad-chunk */
export function parseManifest(text: string, expected?: string): NamedManifest {
  if (text.length > MAX_MANIFEST_BYTES) throw malformed("a manifest", "its length", text.length, `at most ${MAX_MANIFEST_BYTES}`);
  const found = bytesToHex(sha256(new TextEncoder().encode(text)));
  if (expected !== undefined && found !== expected)
    throw new SwarmError("bad-chunk", `Cannot use the manifest: its SHA-256 is ${found}, expected ${expected}`);
  const manifest = parseJson(text, manifestSchema, "a manifest");
  const files = Object.entries(manifest.files);
  if (files.length === 0 || files.length > MAX_FILES)
    throw malformed("a manifest", "the number of files", files.length, `1 to ${MAX_FILES}`);
  for (const [name, { bytes, chunks }] of files) {
    const count = Math.ceil(bytes / manifest.chunkBytes);
    if (chunks.length !== count) throw malformed("a manifest", `the number of chunks of '${name}'`, chunks.length, String(count));
  }
  return { text, digest: found, manifest };
}

/** Reads everything once. */
export async function makeManifest(
  name: string,
  files: CheckpointFiles,
  names: readonly string[],
  { onBytes, signal }: { readonly onBytes?: (bytes: number) => void; readonly signal?: AbortSignal } = {},
): Promise<NamedManifest> {
  const sources = [];
  try {
    for (const file of [...names].sort()) {
      const source = await files.open(file, signal);
      if (source) sources.push({ file, source });
    }
    const total = sources.reduce((sum, { source }) => sum + source.size, 0);
    const chunkBytes = total > SMALL_MODEL ? LARGE_CHUNK : SMALL_CHUNK;
    const entries: Record<string, { bytes: number; chunks: string[] }> = {};
    for (const { file, source } of sources) {
      const chunks: string[] = [];
      for (let at = 0; at < source.size; at += chunkBytes) {
        const length = Math.min(chunkBytes, source.size - at);
        chunks.push(await sha256Hex(await source.read(at, length, signal)));
        onBytes?.(length);
      }
      entries[file] = { bytes: source.size, chunks };
    }
    return parseManifest(JSON.stringify({ version: 1, name, chunkBytes, files: entries }));
  } finally {
    await Promise.all(sources.map(({ source }) => source.close()));
  }
}

export async function sha256Hex(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return bytesToHex(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)));
}
