/** From where a model is to the list of its files: a manifest beside them, what a hub tells, or what an address without either can be asked. */
import { isHubId } from "@shoal/checkpoint";
import { isRecord } from "./bounded.ts";
import { WebError } from "./errors.ts";
import { HUB, hubListing, hubUrl } from "./hub.ts";
import { INDEX, type ListOptions, SINGLE, SMALL_FILES, bodyOf, jsonOf } from "./listing.ts";
import { MANIFEST_NAME, MAX_MANIFEST_BYTES, type ModelFile, type ModelListing, isFileName, parseManifest } from "./manifest.ts";
import type { ModelSource } from "./protocol.ts";

/** DeepSeek-V3's index has 9 MB. */
const MAX_INDEX_BYTES = 100_000_000;
/** Of requests for sizes. */
const AT_ONCE = 8;

type FetchedSource = ModelListing["source"];

/** The address of a folder, with a slash at its end. @throws WebError named `SourceError` */
export function folderUrl(url: string): URL {
  if (!/^https?:\/\//i.test(url) || !URL.canParse(url))
    throw new WebError("SourceError", `Cannot use '${url.slice(0, 200)}' as a model: it is no address, expected 'https://...'`);
  const base = new URL(url);
  base.hash = "";
  if (!base.pathname.endsWith("/")) base.pathname += "/";
  return base;
}

/** What a person typed: an address, or a repository of the hub. @throws WebError named `SourceError` */
export function sourceOf(text: string): FetchedSource {
  const trimmed = text.trim();
  if (/^https?:\/\//i.test(trimmed)) {
    const { hostname, pathname } = folderUrl(trimmed);
    const [, organization = "", name = ""] = pathname.split("/");
    // The address of a repository's page, as one copies it from the browser.
    const isPage = hostname === new URL(HUB).hostname && !pathname.includes("/resolve/") && isHubId(`${organization}/${name}`);
    return isPage ? { kind: "hub", repo: `${organization}/${name}` } : { kind: "folder", url: trimmed };
  }
  if (isHubId(trimmed)) return { kind: "hub", repo: trimmed };
  throw new WebError(
    "SourceError",
    `Cannot use '${trimmed.slice(0, 200)}' as a model: expected an address, or 'organization/name' of a hub`,
  );
}

/** What a model is kept under: the same for the same source, and a name that every file system takes. */
export function storageId(source: FetchedSource): string {
  const { host, pathname } = source.kind === "hub" ? hubUrl(source) : folderUrl(source.url);
  const id = encodeURIComponent(`${host}${pathname}`).replaceAll("*", "%2A");
  if (id.length > 200)
    throw new WebError("SourceError", `Cannot keep the model of '${host}': its address is too long, expected a shorter one`);
  return id;
}

/** For people. */
export function sourceName(source: ModelSource): string {
  if (source.kind === "files") return source.name;
  if (source.kind === "hub") return source.repo;
  const parts = folderUrl(source.url)
    .pathname.split("/")
    .filter((part) => part !== "");
  return decodeURIComponent(parts.at(-1) ?? new URL(source.url).host);
}

/**
 * Asks the network.
 * @throws WebError named `ManifestError`, `SourceError` or `DownloadError`; TypeError where the server cannot be reached
 */
export async function listFiles(source: FetchedSource, options: ListOptions = {}): Promise<ModelListing> {
  return source.kind === "hub" ? hubListing(source, options) : folderListing(source, options);
}

/** Whether a list that is kept may be older than what is at the source: folders with a manifest are asked on every visit. */
export async function folderManifest(
  url: string,
  { signal, fetch = globalThis.fetch }: ListOptions,
): Promise<ReturnType<typeof parseManifest> | null> {
  const response = await fetch(fileUrl(MANIFEST_NAME, folderUrl(url)), { cache: "no-cache", ...(signal && { signal }) });
  if (isAbsent(response)) return null;
  if (response.status >= 500) throw new TypeError(`the server answered ${response.status}`);
  if (!response.ok)
    throw new WebError("DownloadError", `Cannot fetch the model's manifest: the server answered ${response.status}, expected 200`);
  return parseManifest(new TextDecoder().decode(await bodyOf(response, MAX_MANIFEST_BYTES, MANIFEST_NAME)));
}

/** A file's address; what follows the folder's `?`, a signature say, belongs to each. */
export function fileUrl(name: string, base: URL): URL {
  const url = new URL(encodeURIComponent(name), base);
  url.search = base.search;
  return url;
}

async function folderListing(source: FetchedSource & { readonly kind: "folder" }, options: ListOptions): Promise<ModelListing> {
  const base = folderUrl(source.url);
  const listing = (files: ModelListing["files"]): ModelListing => ({ name: sourceName(source), source, base: base.href, files });
  const manifest = await folderManifest(source.url, options);
  if (manifest) return listing(manifest);
  const files = new Map<string, ModelFile>();
  const ask = async (name: string): Promise<boolean> => {
    const bytes = await sizeOf(fileUrl(name, base), name, options);
    if (bytes !== null) files.set(name, { bytes, sha256: null });
    return bytes !== null;
  };
  if (!(await ask("config.json")))
    throw new WebError(
      "SourceError",
      `Cannot use ${base.origin}${base.pathname} as a model: it has no 'config.json', expected a checkpoint's folder`,
    );
  await Promise.all(SMALL_FILES.slice(1).map(ask));
  if (await ask(SINGLE)) return listing(files);
  const shards = (await ask(INDEX)) ? await shardsOf(fileUrl(INDEX, base), options) : [];
  if (shards.length === 0)
    throw new WebError(
      "SourceError",
      `Cannot use ${base.origin}${base.pathname} as a model: it has no weights, expected '${SINGLE}' or '${INDEX}'`,
    );
  for (let at = 0; at < shards.length; at += AT_ONCE) {
    const some = shards.slice(at, at + AT_ONCE);
    const there = await Promise.all(some.map(ask));
    const missing = some.find((_, index) => there[index] !== true);
    if (missing !== undefined)
      throw new WebError("SourceError", `Cannot use ${base.origin}${base.pathname} as a model: '${missing}' of its index is missing`);
  }
  return listing(files);
}

async function shardsOf(url: URL, { signal, fetch = globalThis.fetch }: ListOptions): Promise<readonly string[]> {
  const response = await fetch(url, { cache: "no-cache", ...(signal && { signal }) });
  if (!response.ok) throw new WebError("DownloadError", `Cannot fetch '${INDEX}': the server answered ${response.status}, expected 200`);
  const json = jsonOf(await bodyOf(response, MAX_INDEX_BYTES, INDEX), INDEX);
  const map = isRecord(json) ? json["weight_map"] : undefined;
  if (!isRecord(map)) throw new WebError("SourceError", `Cannot use '${INDEX}': it has no 'weight_map', expected one`);
  const names = [...new Set(Object.values(map))];
  const bad = names.find((name) => typeof name !== "string" || !isFileName(name));
  if (bad !== undefined || names.length > 2048)
    throw new WebError(
      "SourceError",
      `Cannot use '${INDEX}': it names '${String(bad).slice(0, 80)}' or too many files, expected at most 2048 plain names`,
    );
  return names.filter((name) => typeof name === "string");
}

/** Null where there is no such file. */
async function sizeOf(url: URL, name: string, { signal, fetch = globalThis.fetch }: ListOptions): Promise<number | null> {
  const options = { cache: "no-cache", ...(signal && { signal }) } as const;
  const head = await fetch(url, { ...options, method: "HEAD" });
  if (isAbsent(head)) return null;
  const length = head.headers.get("content-length");
  const plain = (head.headers.get("content-encoding") ?? "identity") === "identity";
  if (head.ok && length !== null && /^\d{1,15}$/.test(length) && plain) return Number(length);
  // Servers that compress, or answer no HEAD, say the size of the file itself with a range.
  const first = await fetch(url, { ...options, headers: { range: "bytes=0-0" } });
  const total = /\/(\d{1,15})$/.exec(first.headers.get("content-range") ?? "")?.[1];
  await first.body?.cancel().catch(() => {});
  if (isAbsent(first)) return null;
  if (total !== undefined) return Number(total);
  throw new WebError(
    "DownloadError",
    `Cannot tell the size of '${name}': the server answered ${first.status} without it, expected Content-Length or Content-Range`,
  );
}

/** Development servers answer an unknown address with the page itself. */
function isAbsent(response: Response): boolean {
  return response.status === 404 || response.status === 410 || response.headers.get("content-type")?.startsWith("text/html") === true;
}
