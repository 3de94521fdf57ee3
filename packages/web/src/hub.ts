/**
 * A model in a repository of a hub: https://huggingface.co/docs/hub/api for what it can be asked. Files are fetched from `resolve/COMMIT/NAME`, which sends large ones on to other
 * hosts; of those it tells the SHA-256 (Git LFS calls it `oid`), of small ones git's SHA-1.
 */
import { hubBaseUrl } from "@shoal/checkpoint";
import { isRecord } from "./bounded.ts";
import { WebError } from "./errors.ts";
import { INDEX, type ListOptions, SMALL_FILES, bodyOf, jsonOf } from "./listing.ts";
import { type ModelFile, type ModelListing, isFileName } from "./manifest.ts";

export type HubSource = ModelListing["source"] & { readonly kind: "hub" };

export const HUB = "https://huggingface.co";
const MAX_BYTES = 16 * 2 ** 20;
/** Of a list of files, which comes a thousand at a time. */
const MAX_PAGES = 16;

export function hubUrl({ repo, revision, endpoint }: HubSource): URL {
  return hubBaseUrl(repo, { endpoint: endpoint ?? HUB, ...(revision !== undefined && { revision }) });
}

/**
 * Asks for the revision's commit first, so that all files are of one version, however long they take.
 * @throws WebError named `SourceError` or `DownloadError`; TypeError where the hub cannot be reached
 */
export async function hubListing(source: HubSource, options: ListOptions): Promise<ModelListing> {
  const { repo, revision = "main", endpoint = HUB } = source;
  const hub = hubUrl(source);
  const api = new URL(`api/models/${repo}/`, endpoint.endsWith("/") ? endpoint : `${endpoint}/`);
  const { json: found } = await ask(new URL(`revision/${encodeURIComponent(revision)}`, api), source, options);
  if (!isRecord(found)) throw new WebError("SourceError", `Cannot use '${repo}': ${hub.origin} tells nothing of '${revision}'`);
  const { sha: commit, gated } = found;
  // Whose list anybody may read, but not the files.
  if (gated === "auto" || gated === "manual") throw gatedError(repo);
  if (typeof commit !== "string" || !/^[0-9a-f]{40}$/.test(commit))
    throw new WebError("SourceError", `Cannot use '${repo}': ${hub.origin} names no commit for '${revision}', expected 40 hex digits`);
  const files = new Map<string, ModelFile>();
  let page: URL | null = new URL(`tree/${commit}`, api);
  for (let pages = 0; page !== null; pages++) {
    if (pages === MAX_PAGES) throw new WebError("SourceError", `Cannot use '${repo}': its list of files has no end after ${pages} pages`);
    const { json: entries, next }: Answer = await ask(page, source, options);
    if (!Array.isArray(entries)) throw new WebError("SourceError", `Cannot use '${repo}': ${hub.origin} gives no list of files`);
    for (const entry of entries as readonly unknown[]) addFile(files, entry);
    page = next;
  }
  if (!files.has("config.json") || ![...files.keys()].some((name) => name.endsWith(".safetensors")))
    throw new WebError("SourceError", `Cannot use '${repo}': it has no 'config.json' with safetensors beside it, expected a checkpoint`);
  return { name: repo, source, base: hubBaseUrl(repo, { endpoint, revision: commit }).href, files };
}

/** If it is one of a checkpoint's. */
function addFile(files: Map<string, ModelFile>, entry: unknown): void {
  if (!isRecord(entry) || entry["type"] !== "file") return;
  const { path, size, oid, lfs } = entry;
  if (typeof path !== "string" || !isFileName(path) || typeof size !== "number" || !Number.isSafeInteger(size) || size < 0) return;
  if (!SMALL_FILES.includes(path) && path !== INDEX && !path.endsWith(".safetensors")) return;
  const sha256 = isRecord(lfs) && typeof lfs["oid"] === "string" && /^[0-9a-f]{64}$/.test(lfs["oid"]) ? lfs["oid"] : null;
  const gitSha1 = sha256 === null && typeof oid === "string" && /^[0-9a-f]{40}$/.test(oid) ? oid : undefined;
  files.set(path, { bytes: size, sha256, ...(gitSha1 !== undefined && { gitSha1 }) });
}

interface Answer {
  readonly json: unknown;
  /** Where the list goes on. */
  readonly next: URL | null;
}

async function ask(url: URL, { repo, revision = "main" }: HubSource, { signal, fetch = globalThis.fetch }: ListOptions): Promise<Answer> {
  const response = await fetch(url, { credentials: "omit", ...(signal && { signal }) });
  const { status, headers } = response;
  const code = headers.get("x-error-code");
  if (status >= 500) throw new TypeError(`the server answered ${status}`);
  if (code === "GatedRepo") throw gatedError(repo);
  if (code === "RevisionNotFound")
    throw new WebError("SourceError", `Cannot use '${repo}': ${url.origin} has no revision '${revision}' of it`);
  if (status === 401 || status === 403 || status === 404)
    throw new WebError("SourceError", `Cannot use '${repo}': ${url.origin} has no such public model (it answered ${status})`);
  if (status === 429)
    throw new WebError(
      "DownloadError",
      `Cannot ask for '${repo}': ${url.origin} takes no more requests, expected to be asked ${when(headers)}`,
    );
  if (!response.ok) throw new WebError("DownloadError", `Cannot ask for '${repo}': ${url.origin} answered ${status}, expected 200`);
  return { json: jsonOf(await bodyOf(response, MAX_BYTES, repo), repo), next: nextOf(headers, url) };
}

function gatedError(repo: string): WebError {
  return new WebError(
    "SourceError",
    `Cannot use '${repo}': only accounts that agreed to its terms may read it, expected a public model; download it yourself and choose its folder`,
  );
}

/** Seconds until more is allowed, as the hub's `RateLimit: "api";r=0;t=55` has them, if the page may read that. */
function when(headers: Headers): string {
  const seconds = /;\s*t=(\d{1,6})/.exec(headers.get("ratelimit") ?? "")?.[1] ?? /^\d{1,6}$/.exec(headers.get("retry-after") ?? "")?.[0];
  return seconds === undefined ? "again later" : `again in ${seconds} seconds`;
}

/** The address of `Link: <address>; rel="next"`, if it is one of the same server. */
function nextOf(headers: Headers, base: URL): URL | null {
  const address = /<([^<>]{1,4096})>\s*;\s*rel="?next"?/.exec(headers.get("link") ?? "")?.[1];
  if (address === undefined || !URL.canParse(address, base)) return null;
  const next = new URL(address, base);
  return next.origin === base.origin ? next : null;
}
