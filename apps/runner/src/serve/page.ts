/**
 * The chat page's files, as it was built: those that its folder holds when the server starts, and no others. They hold nothing secret and need no key. What a name with a hash in it
 * holds never changes; everything else is asked for anew each time, and sent only if it has changed. Ranges are answered, for the page downloads models in parts.
 */
import { createReadStream } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import path from "node:path";
import { Readable } from "node:stream";

export type Page = (request: Request) => Response | undefined;

interface PageFile {
  readonly path: string;
  readonly size: number;
  readonly etag: string;
  readonly type: string;
  readonly immutable: boolean;
}

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
  ".json": "application/json",
  ".webmanifest": "application/manifest+json",
  ".wasm": "application/wasm",
};

/** The page brings its own Content-Security-Policy, which cannot say who may frame it. */
const HEADERS: Readonly<Record<string, string>> = {
  "content-security-policy": "frame-ancestors 'none'",
  "cross-origin-opener-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "accept-ranges": "bytes",
};

/** @returns undefined where the folder holds no page */
export async function openPage(folder: string): Promise<Page | undefined> {
  const files = await filesOf(folder);
  if (!files.has("/index.html")) return undefined;
  return (request) => {
    const { pathname } = new URL(request.url);
    const file = files.get(pathname === "/" ? "/index.html" : pathname);
    if (!file || (request.method !== "GET" && request.method !== "HEAD")) return undefined;
    return answer(request, file);
  };
}

async function filesOf(folder: string): Promise<ReadonlyMap<string, PageFile>> {
  const names = await readdir(folder, { recursive: true }).catch(() => []);
  const files = new Map<string, PageFile>();
  for (const name of names) {
    const place = path.join(folder, name);
    const { size, mtimeMs, isFile } = await stat(place).then((found) => ({
      size: found.size,
      mtimeMs: found.mtimeMs,
      isFile: found.isFile(),
    }));
    if (!isFile) continue;
    const url = `/${name.split(path.sep).map(encodeURIComponent).join("/")}`;
    files.set(url, {
      path: place,
      size,
      etag: `"${size.toString(36)}-${Math.round(mtimeMs).toString(36)}"`,
      type: TYPES[path.extname(name)] ?? "application/octet-stream",
      immutable: /^\/assets\/.+-[\w-]{8,}\.\w+$/.test(url),
    });
  }
  return files;
}

function answer(request: Request, { path: place, size, etag, type, immutable }: PageFile): Response {
  const headers = new Headers({
    ...HEADERS,
    etag,
    "content-type": type,
    "cache-control": immutable ? "public, max-age=31536000, immutable" : "no-cache",
  });
  if (request.headers.get("if-none-match") === etag) return new Response(null, { status: 304, headers });
  const range = rangeOf(request.headers.get("range"), size);
  if (range === "none") {
    headers.set("content-range", `bytes */${size}`);
    return new Response(null, { status: 416, headers });
  }
  const { start, end } = range ?? { start: 0, end: size };
  headers.set("content-length", String(end - start));
  if (range) headers.set("content-range", `bytes ${start}-${end - 1}/${size}`);
  const body = request.method === "HEAD" || end === start ? null : Readable.toWeb(createReadStream(place, { start, end: end - 1 }));
  return new Response(body as ReadableStream<Uint8Array> | null, { status: range ? 206 : 200, headers });
}

/** One range of bytes; several, and what is no range, count as none asked for (RFC 9110, 14.2). */
function rangeOf(header: string | null, size: number): { readonly start: number; readonly end: number } | "none" | undefined {
  const [, from = "", to = ""] = /^bytes=(\d*)-(\d*)$/.exec(header ?? "") ?? [];
  if (from === "" && to === "") return undefined;
  const start = from === "" ? Math.max(0, size - Number(to)) : Number(from);
  const end = from === "" || to === "" ? size : Math.min(size, Number(to) + 1);
  return start < end ? { start, end } : "none";
}
