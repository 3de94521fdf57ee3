/** The list of a model's files: what is downloaded, and what it must be. It comes from a network or from storage, so nothing in it is trusted. */
import { isRecord } from "./bounded.ts";
import { WebError } from "./errors.ts";
import type { ModelSource } from "./protocol.ts";

export interface ModelFile {
  readonly bytes: number;
  /** 64 lower-case hex digits; null where nobody has said: then it becomes what was first received. */
  readonly sha256: string | null;
  /** What git calls it: the SHA-1 of `blob SIZE\0` and its bytes. Hubs tell this of small files. */
  readonly gitSha1?: string;
}

/** By file name. */
export type ModelManifest = ReadonlyMap<string, ModelFile>;

/** A model as it can be fetched, and as it is kept. */
export interface ModelListing {
  readonly name: string;
  readonly source: ModelSource & { readonly kind: "folder" | "hub" };
  /** Its files lie under this address. */
  readonly base: string;
  readonly files: ModelManifest;
}

/** Beside the files of a folder. */
export const MANIFEST_NAME = "manifest.json";
/** Beside what is kept. No name of a model's file has a tilde. */
export const LISTING_NAME = "listing~.json";
export const MAX_MANIFEST_BYTES = 2 ** 20;
const MAX_FILES = 4096;
const MAX_TEXT = 2048;
const NAME = /^[A-Za-z0-9][\w.-]{0,127}$/;
const DIGEST = /^[0-9a-f]{64}$/;
const GIT_DIGEST = /^[0-9a-f]{40}$/;

/** `{ "config.json": { "bytes": 1435, "sha256": "..." }, ... }`. @throws WebError named `ManifestError` */
export function parseManifest(text: string): ModelManifest {
  if (text.length > MAX_MANIFEST_BYTES) refuse("its length", text.length, `at most ${MAX_MANIFEST_BYTES}`);
  const files = filesOf(parseJson(text));
  for (const [name, { sha256 }] of files) if (sha256 === null) refuse(`'${name}'.sha256`, null, "64 lower-case hex digits");
  return files;
}

/** What `listingText` wrote. @throws WebError named `ManifestError` */
export function parseListing(text: string): ModelListing {
  if (text.length > MAX_MANIFEST_BYTES) refuse("its length", text.length, `at most ${MAX_MANIFEST_BYTES}`);
  const json = parseJson(text);
  if (!isRecord(json) || json["version"] !== 1) return refuse("its version", isRecord(json) ? json["version"] : json, "1");
  const base = textOf(json["base"], "base");
  if (!/^https?:\/\//i.test(base) || !URL.canParse(base)) refuse("base", base, "an http(s) address");
  return { name: textOf(json["name"], "name"), base, source: sourceOf(json["source"]), files: filesOf(json["files"]) };
}

export function listingText({ name, source, base, files }: ModelListing): string {
  return JSON.stringify({ version: 1, name, source, base, files: Object.fromEntries(files) });
}

export function isFileName(name: string): boolean {
  return NAME.test(name);
}

export function manifestBytes(manifest: ModelManifest): number {
  let sum = 0;
  for (const { bytes } of manifest.values()) sum += bytes;
  return sum;
}

function filesOf(json: unknown): ModelManifest {
  if (!isRecord(json)) return refuse("it", json, "an object of files");
  const entries = Object.entries(json);
  if (entries.length === 0 || entries.length > MAX_FILES) refuse("the number of files", entries.length, `1 to ${MAX_FILES}`);
  const files = new Map<string, ModelFile>();
  for (const [name, file] of entries) {
    if (!NAME.test(name) || name === MANIFEST_NAME) refuse("a file's name", name, "letters, digits, '.', '_' and '-'");
    if (!isRecord(file)) return refuse(`'${name}'`, file, "an object");
    const { bytes, sha256 = null, gitSha1 } = file;
    if (typeof bytes !== "number" || !Number.isSafeInteger(bytes) || bytes < 0) return refuse(`'${name}'.bytes`, bytes, "a size in bytes");
    if (sha256 !== null && !isDigest(sha256, DIGEST)) return refuse(`'${name}'.sha256`, sha256, "64 lower-case hex digits");
    if (gitSha1 !== undefined && !isDigest(gitSha1, GIT_DIGEST)) return refuse(`'${name}'.gitSha1`, gitSha1, "40 lower-case hex digits");
    files.set(name, { bytes, sha256, ...(gitSha1 !== undefined && { gitSha1 }) });
  }
  return files;
}

function sourceOf(json: unknown): ModelListing["source"] {
  if (!isRecord(json)) return refuse("source", json, "an object");
  if (json["kind"] === "folder") return { kind: "folder", url: textOf(json["url"], "source.url") };
  if (json["kind"] !== "hub") return refuse("source.kind", json["kind"], "'folder' or 'hub'");
  const { revision, endpoint } = json;
  return {
    kind: "hub",
    repo: textOf(json["repo"], "source.repo"),
    ...(revision !== undefined && { revision: textOf(revision, "source.revision") }),
    ...(endpoint !== undefined && { endpoint: textOf(endpoint, "source.endpoint") }),
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new WebError("ManifestError", "Cannot read the model's manifest: it is not JSON, expected an object of files", { cause });
  }
}

function textOf(value: unknown, field: string): string {
  return typeof value === "string" && value.length > 0 && value.length <= MAX_TEXT ? value : refuse(field, value, "a short text");
}

function isDigest(value: unknown, pattern: RegExp): value is string {
  return typeof value === "string" && pattern.test(value);
}

function refuse(field: string, value: unknown, expected: string): never {
  throw new WebError("ManifestError", `Cannot read the model's manifest: ${field} is ${describe(value)}, expected ${expected}`);
}

function describe(value: unknown): string {
  return JSON.stringify(value)?.slice(0, 80) ?? "missing";
}
