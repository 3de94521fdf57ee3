/** The list of a model's files, `manifest.json` beside them: what is downloaded, and what it must be. It comes from a network, so nothing in it is trusted. */
import { WebError } from "./errors.ts";

export interface ModelFile {
  readonly bytes: number;
  /** 64 lower-case hex digits. */
  readonly sha256: string;
}

/** By file name. */
export type ModelManifest = ReadonlyMap<string, ModelFile>;

export const MANIFEST_NAME = "manifest.json";
export const MAX_MANIFEST_BYTES = 2 ** 20;
const MAX_FILES = 4096;
const NAME = /^[A-Za-z0-9][\w.-]{0,127}$/;
const DIGEST = /^[0-9a-f]{64}$/;

/** @throws WebError named `ManifestError` */
export function parseManifest(text: string): ModelManifest {
  const refuse = (field: string, value: unknown, expected: string): never => {
    throw new WebError("ManifestError", `Cannot read the model's manifest: ${field} is ${describe(value)}, expected ${expected}`);
  };
  if (text.length > MAX_MANIFEST_BYTES) refuse("its length", text.length, `at most ${MAX_MANIFEST_BYTES}`);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new WebError("ManifestError", "Cannot read the model's manifest: it is not JSON, expected an object of files", { cause });
  }
  if (!isRecord(json)) return refuse("it", json, "an object of files");
  const entries = Object.entries(json);
  if (entries.length === 0 || entries.length > MAX_FILES) refuse("the number of files", entries.length, `1 to ${MAX_FILES}`);
  const files = new Map<string, ModelFile>();
  for (const [name, file] of entries) {
    if (!NAME.test(name) || name === MANIFEST_NAME) refuse("a file's name", name, "letters, digits, '.', '_' and '-'");
    if (!isRecord(file)) return refuse(`'${name}'`, file, "an object");
    const { bytes, sha256 } = file;
    if (typeof bytes !== "number" || !Number.isSafeInteger(bytes) || bytes < 0) return refuse(`'${name}'.bytes`, bytes, "a size in bytes");
    if (typeof sha256 !== "string" || !DIGEST.test(sha256)) return refuse(`'${name}'.sha256`, sha256, "64 lower-case hex digits");
    files.set(name, { bytes, sha256 });
  }
  return files;
}

export function manifestBytes(manifest: ModelManifest): number {
  let sum = 0;
  for (const { bytes } of manifest.values()) sum += bytes;
  return sum;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function describe(value: unknown): string {
  return JSON.stringify(value)?.slice(0, 80) ?? "missing";
}
