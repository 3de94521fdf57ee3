/** From a request to its response: routes, limits, errors, and the record of each. Knows no server: pages and servers hand it Fetch's own types. */
import { Admission } from "./admission.ts";
import { completionJob } from "./completion.ts";
import { ApiError, type FaultFields, clientFault, errorBody, errorResponse, serverFault, unavailable } from "./errors.ts";
import { type Job, chatJob } from "./handlers.ts";
import { readJson } from "./json.ts";
import { DEFAULT_LIMITS } from "./limits.ts";
import { Metrics } from "./metrics.ts";
import { openApiDocument } from "./openapi.ts";
import type { ApiOptions, RequestRecord } from "./options.ts";
import { chunks, whole } from "./respond.ts";
import { EVENT_STREAM_HEADERS, eventStream, within } from "./sse.ts";

export interface RequestContext {
  /** Whom the limits of one client are counted for, such as an address. */
  readonly client?: string;
}

export type Api = (request: Request, context?: RequestContext) => Promise<Response>;

const JOBS: Readonly<Record<string, (body: unknown, options: ApiOptions) => Job>> = {
  "/chat/completions": chatJob,
  "/completions": completionJob,
};

export function createApi(options: ApiOptions): Api {
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  const admission = new Admission(limits);
  const metrics = new Metrics();
  const { engine, model, closing } = options;

  const metricsText = async (): Promise<string> => {
    // A device that is being replaced cannot say, and all else can still be read.
    const paging = await options.paging?.().catch(() => []);
    return metrics.text(engine.status(), paging);
  };

  const get = async (path: string): Promise<Response | undefined> => {
    const { running, waiting, contextTokens } = engine.status();
    const entry = { id: model.id, object: "model", created: model.created, owned_by: "shoal", context_length: contextTokens };
    if (path === "/health") {
      const ending = closing?.aborted === true;
      return Response.json({ status: ending ? "closing" : "ok", running, waiting }, { status: ending ? 503 : 200 });
    }
    if (path === "/metrics")
      return new Response(await metricsText(), { headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" } });
    if (path === "/openapi.json") return Response.json(openApiDocument());
    if (path === "/models") return Response.json({ object: "list", data: [entry] });
    if (path === `/models/${encodeURIComponent(model.id)}` || path === `/models/${model.id}`) return Response.json(entry);
    return undefined;
  };

  return async (request, { client = "" } = {}) => {
    const begin = performance.now();
    const { method } = request;
    const path = new URL(request.url).pathname.replace(/^\/(v1|beta)(?=\/)/, "");
    const id = `req_${crypto.randomUUID()}`;
    const ended = (more: Pick<RequestRecord, "status"> & Partial<RequestRecord>): void => {
      const record = { id, client, method, path, ms: performance.now() - begin, stream: false, ...more };
      metrics.count(record, path in JOBS ? path : "other");
      options.onRequest?.(record);
    };
    const tagged = (response: Response): Response => {
      response.headers.set("x-request-id", id);
      return response;
    };
    const plain = (response: Response): Response => {
      ended({ status: response.status });
      return tagged(response);
    };
    const makeJob = Object.hasOwn(JOBS, path) ? JOBS[path] : undefined;
    if (!makeJob) {
      const found = await get(path);
      if (found && method !== "GET" && method !== "HEAD") return plain(errorResponse(wrongMethod(method, "GET")));
      return plain(found ?? errorResponse(notFound(path)));
    }
    if (method !== "POST") return plain(errorResponse(wrongMethod(method, "POST")));

    const controller = new AbortController();
    const stop = (): void => controller.abort(request.signal.reason);
    const timer = setTimeout(() => controller.abort(timedOut(limits.timeoutMs)), limits.timeoutMs);
    request.signal.addEventListener("abort", stop, { once: true });
    let leave = (): void => {};
    const release = (): void => {
      clearTimeout(timer);
      request.signal.removeEventListener("abort", stop);
      leave();
      leave = () => {};
    };
    let details: Partial<RequestRecord> = {};
    let fields: FaultFields = { textField: "body", constraintField: "body" };
    const failed = (error: unknown): ApiError => {
      const known = clientFault(error, fields);
      const shown = known ?? serverFault();
      const gone = request.signal.aborted || (controller.signal.aborted && known === undefined);
      if (gone) ended({ ...details, status: 499, error: "client_closed_request" });
      else ended({ ...details, status: shown.status, error: shown.code, ...(known === undefined && { fault: error }) });
      return shown;
    };
    try {
      if (closing?.aborted === true) throw unavailable("Cannot take the request: the server is closing");
      const job = makeJob(await readJson(request, limits), options);
      fields = job;
      details = { stream: job.stream, body: job.body };
      leave = admission.enter(client, job.wishes.length, engine.status().maxSequences);
      const heard = (outcome: Partial<RequestRecord>): void => void (details = { ...details, ...outcome });
      if (!job.stream) {
        const answer = await whole(job, options, controller.signal, heard);
        release();
        ended({ ...details, status: 200 });
        return tagged(Response.json(answer));
      }
      const source = chunks(job, options, controller.signal, heard);
      // What the engine refuses is still an answer with a status of its own.
      const first = source.next();
      await within(first, limits.keepAliveMs);
      const all = (async function* () {
        const { done, value } = await first;
        if (done !== true) yield value;
        yield* source;
        release();
        ended({ ...details, status: 200 });
      })();
      const body = eventStream(all, {
        keepAliveMs: limits.keepAliveMs,
        signal: controller.signal,
        onCancel: () => {
          controller.abort(new DOMException("The client has gone", "AbortError"));
          release();
          ended({ ...details, status: 499, error: "client_closed_request" });
        },
        onError: (error) => {
          controller.abort(error);
          release();
          return errorBody(failed(error));
        },
      });
      return tagged(new Response(body, { headers: EVENT_STREAM_HEADERS }));
    } catch (error) {
      // Of several answers the others are not wanted any more.
      controller.abort(error);
      release();
      return tagged(errorResponse(failed(error)));
    }
  };
}

function notFound(path: string): ApiError {
  return new ApiError(`Cannot find '${path.slice(0, 80)}', expected a path of /openapi.json`, {
    status: 404,
    type: "not_found_error",
    code: "not_found",
  });
}

function wrongMethod(method: string, expected: string): ApiError {
  return new ApiError(`Cannot use ${method} here, expected ${expected}`, {
    status: 405,
    type: "invalid_request_error",
    code: "method_not_allowed",
    headers: { allow: expected },
  });
}

function timedOut(ms: number): ApiError {
  return new ApiError(`Cannot finish the request: it took longer than ${ms} ms`, {
    status: 408,
    type: "timeout_error",
    code: "request_timeout",
  });
}
