/** HTTP around the API: an address, who may ask, a log, and an end that lets answers finish. */
import { type ApiLimits, type ApiOptions, type RequestRecord, createApi } from "@shoal/api";
import { RunnerError } from "../errors.ts";
import { type GuardOptions, corsHeaders, guard } from "./guard.ts";
import type { Page } from "./page.ts";

export interface ServerOptions extends Pick<GuardOptions, "apiKey" | "origins"> {
  readonly hostname: string;
  /** 0: any that is free. */
  readonly port: number;
  readonly api: Pick<ApiOptions, "engine" | "tokenizer" | "template" | "model" | "paging">;
  readonly limits: Partial<ApiLimits>;
  /** Answered before everything else, where there is one. */
  readonly page?: Page | undefined;
  readonly onRequest: (record: RequestRecord) => void;
  /** Ends the server: nothing new is taken, and what runs is waited for. */
  readonly signal: AbortSignal;
}

export interface Server {
  /** "http://127.0.0.1:8080" */
  readonly url: string;
  /** Resolves when the last answer has ended after the signal. */
  readonly finished: Promise<void>;
}

const LOOPBACK: ReadonlySet<string> = new Set(["127.0.0.1", "::1", "localhost"]);

export function isLoopback(hostname: string): boolean {
  return LOOPBACK.has(hostname);
}

/** @throws RunnerError where the address cannot be had */
export function startServer({ hostname, port, api, limits, page, onRequest, signal, apiKey, origins }: ServerOptions): Server {
  const answer = createApi({ ...api, limits, onRequest, closing: signal });
  const allowed: GuardOptions = { apiKey, origins, loopback: isLoopback(hostname) };
  const handle = async (request: Request, client: string): Promise<Response> => {
    const file = page?.(request);
    if (file) return file;
    const response = guard(request, allowed) ?? (await answer(request, { client }));
    for (const [name, value] of Object.entries(corsHeaders(request.headers.get("origin"), origins))) response.headers.set(name, value);
    return response;
  };
  try {
    const server = Deno.serve({ hostname, port, onListen: () => {} }, (request, { remoteAddr }) =>
      handle(request, remoteAddr.transport === "tcp" ? remoteAddr.hostname : ""),
    );
    signal.addEventListener("abort", () => void server.shutdown(), { once: true });
    const { hostname: bound, port: at } = server.addr;
    return { url: `http://${bound.includes(":") ? `[${bound}]` : bound}:${at}`, finished: server.finished };
  } catch (cause) {
    throw new RunnerError(listenMessage(hostname, port, cause), { cause });
  }
}

function listenMessage(hostname: string, port: number, cause: unknown): string {
  const address = `${hostname}:${port}`;
  if (cause instanceof Deno.errors.AddrInUse) return `Cannot listen on ${address}: another program does, expected a free --port`;
  if (cause instanceof Deno.errors.PermissionDenied) return `Cannot listen on ${address}: not allowed, expected a --port from 1024 on`;
  return `Cannot listen on ${address}: ${cause instanceof Error ? cause.message : String(cause)}`;
}
