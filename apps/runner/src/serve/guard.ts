/**
 * Who may ask a server, before anything is read of what they ask: the API key, the Host that they name, and the page that they come from. A server on this machine alone is still
 * reached by every page that its browser shows: without these checks a page could read answers by a name that it points here (DNS rebinding).
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { errorResponse, ApiError } from "@shoal/api";

export interface GuardOptions {
  /** Undefined: none is asked for. */
  readonly apiKey: string | undefined;
  /** Whether the server is bound to this machine's own addresses. */
  readonly loopback: boolean;
  /** Origins of pages that may read answers; "*" is every page. */
  readonly origins: readonly string[];
}

const LOOPBACK_NAMES: ReadonlySet<string> = new Set(["localhost", "127.0.0.1", "[::1]"]);
/** Paths that tell nothing of anybody and that probes ask without a key. */
const OPEN_PATHS: ReadonlySet<string> = new Set(["/health"]);
const PREFLIGHT_SECONDS = "600";

/** Answers for those who may not ask, and for browsers' questions about that; undefined for the others. */
export function guard(request: Request, { apiKey, loopback, origins }: GuardOptions): Response | undefined {
  const { hostname, pathname } = new URL(request.url);
  if (loopback && apiKey === undefined && !LOOPBACK_NAMES.has(hostname))
    return errorResponse(
      new ApiError(`Cannot answer for the host '${hostname.slice(0, 80)}', expected localhost or 127.0.0.1`, {
        status: 403,
        type: "permission_error",
        code: "wrong_host",
      }),
    );
  const origin = request.headers.get("origin");
  if (request.method === "OPTIONS" && origin !== null) return new Response(null, { status: 204, headers: corsHeaders(origin, origins) });
  if (apiKey === undefined || OPEN_PATHS.has(pathname)) return undefined;
  const given = /^Bearer +(.+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
  if (given !== undefined && sameText(given.trim(), apiKey)) return undefined;
  return errorResponse(
    new ApiError(
      `Cannot answer without the API key, expected 'Authorization: Bearer KEY'${given === undefined ? "" : " with another key"}`,
      {
        status: 401,
        type: "authentication_error",
        code: "invalid_api_key",
        headers: { "www-authenticate": "Bearer" },
      },
    ),
  );
}

/** What lets a page of one of `origins` read an answer; nothing for others. */
export function corsHeaders(origin: string | null, origins: readonly string[]): Record<string, string> {
  if (origin === null || !(origins.includes("*") || origins.includes(origin))) return {};
  return {
    "access-control-allow-origin": origins.includes("*") ? "*" : origin,
    "access-control-allow-methods": "GET, POST, OPTIONS",
    "access-control-allow-headers": "authorization, content-type",
    "access-control-max-age": PREFLIGHT_SECONDS,
    vary: "origin",
  };
}

/** Takes the same time wherever they differ, and whatever their lengths. */
function sameText(a: string, b: string): boolean {
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}
