/**
 * OpenAI's chat completions over anything that answers as `fetch` does: the engine in this page's worker, a server of ours, another's. What a server sends is not trusted:
 * its answers are bounded and checked as far as they are used.
 */
import type { ChatCompletion, ChatCompletionChunk as ApiChunk, ChatRequestInput, ModelEntry } from "@shoal/api";
import { isRecord, readBounded } from "./bounded.ts";
import { ApiRequestError } from "./errors.ts";
import { eventData } from "./eventStream.ts";

type ReadonlyDeep<T> = T extends readonly (infer Item)[]
  ? readonly ReadonlyDeep<Item>[]
  : T extends object
    ? { readonly [Key in keyof T]: ReadonlyDeep<T[Key]> }
    : T;

/** A request's fields, as the server's OpenAPI document has them. */
export type ChatCompletionRequest = ReadonlyDeep<ChatRequestInput>;
export type ChatMessage = ChatCompletionRequest["messages"][number];
export type { ChatCompletion } from "@shoal/api";

/** Not OpenAI's: how long an answer took, seen from here. Milliseconds. */
export interface CompletionTimings {
  readonly first_token_ms: number;
  /** From the first text to the last. */
  readonly decode_ms: number;
}

export type ChatCompletionChunk = ApiChunk & {
  /** Beside `usage`, in the last chunk. */
  readonly timings?: CompletionTimings;
};

export interface RequestOptions {
  readonly signal?: AbortSignal;
}

export interface ChatCompletions {
  create(request: ChatCompletionRequest & { readonly stream: true }, options?: RequestOptions): AsyncGenerator<ChatCompletionChunk, void>;
  create(request: ChatCompletionRequest & { readonly stream?: false }, options?: RequestOptions): Promise<ChatCompletion>;
}

/** Whatever answers chats: this device, a server, and in time a swarm. Pages need nothing else of it. */
export interface ChatBackend {
  readonly chat: { readonly completions: ChatCompletions };
  readonly models: { list(options?: RequestOptions): Promise<readonly ModelEntry[]> };
}

export interface ClientOptions {
  /** With the version: `https://api.example.com/v1`. */
  readonly baseUrl: string | URL;
  readonly fetch?: typeof globalThis.fetch;
  readonly apiKey?: string;
  /** Named in requests that name none. */
  readonly model?: string;
}

/** Of an answer that is not a stream. */
const MAX_ANSWER_BYTES = 64 * 2 ** 20;
const MAX_MODELS = 1000;
const MAX_MESSAGE = 2000;

/** An OpenAI-compatible server as a backend. Nothing is sent until something is asked. */
export function createClient({ baseUrl, apiKey, model, fetch = globalThis.fetch.bind(globalThis) }: ClientOptions): ChatBackend {
  const base = new URL(baseUrl);
  if (!base.pathname.endsWith("/")) base.pathname += "/";
  const send = async (path: string, body: unknown, signal: AbortSignal | undefined): Promise<Response> => {
    let response: Response;
    try {
      response = await fetch(new URL(path, base), {
        method: body === undefined ? "GET" : "POST",
        headers: {
          ...(body !== undefined && { "content-type": "application/json" }),
          ...(apiKey !== undefined && apiKey !== "" && { authorization: `Bearer ${apiKey}` }),
        },
        // What a page keeps for a site is not that site's server's business, nor is where the page lies.
        credentials: "omit",
        referrerPolicy: "no-referrer",
        ...(body !== undefined && { body: JSON.stringify(body) }),
        ...(signal && { signal }),
      });
    } catch (cause) {
      signal?.throwIfAborted();
      if (!(cause instanceof TypeError)) throw cause;
      const message = `Cannot reach ${base.origin}: it does not answer, or not to this page (it must allow this page's origin)`;
      throw new ApiRequestError(message, { status: 0, code: "unreachable" }, { cause });
    }
    if (!response.ok) throw await errorOf(response, base);
    return response;
  };
  const named = (request: ChatCompletionRequest): ChatCompletionRequest =>
    request.model === undefined && model !== undefined ? { ...request, model } : request;

  async function whole(request: ChatCompletionRequest, { signal }: RequestOptions): Promise<ChatCompletion> {
    const answer = await readJson(await send("chat/completions", named(request), signal), base);
    if (!isRecord(answer) || !Array.isArray(answer["choices"])) throw badAnswer(base, "has no choices");
    return answer as unknown as ChatCompletion;
  }

  async function* stream(request: ChatCompletionRequest, { signal }: RequestOptions): AsyncGenerator<ChatCompletionChunk, void> {
    const left = new AbortController();
    const either = signal ? AbortSignal.any([signal, left.signal]) : left.signal;
    const asked = { stream_options: { include_usage: true }, ...named(request) };
    const begin = performance.now();
    let firstAt: number | undefined;
    let lastAt = begin;
    try {
      const { body } = await send("chat/completions", asked, either);
      if (!body) throw badAnswer(base, "has no body");
      for await (const data of eventData(body)) {
        if (data === "[DONE]") return;
        const chunk = chunkOf(data, base);
        if (hasText(chunk)) {
          lastAt = performance.now();
          firstAt ??= lastAt;
        }
        yield chunk.usage
          ? { ...chunk, timings: { first_token_ms: (firstAt ?? lastAt) - begin, decode_ms: lastAt - (firstAt ?? lastAt) } }
          : chunk;
      }
      signal?.throwIfAborted();
      throw badAnswer(base, "ended early");
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof TypeError)
        throw new ApiRequestError(
          `Cannot go on: the connection to ${base.origin} broke`,
          { status: 0, code: "unreachable" },
          { cause: error },
        );
      throw error;
    } finally {
      // Whoever leaves the loop wants no more of it.
      left.abort();
    }
  }

  return {
    chat: {
      completions: {
        create: ((request: ChatCompletionRequest, options: RequestOptions = {}) =>
          request.stream === true ? stream(request, options) : whole(request, options)) as ChatCompletions["create"],
      },
    },
    models: {
      async list({ signal }: RequestOptions = {}) {
        const answer = await readJson(await send("models", undefined, signal), base);
        if (!isRecord(answer) || !Array.isArray(answer["data"])) throw badAnswer(base, "has no list of models");
        const entries: readonly unknown[] = answer["data"];
        return entries.slice(0, MAX_MODELS).filter((entry): entry is ModelEntry => isRecord(entry) && typeof entry["id"] === "string");
      },
    },
  };
}

function hasText({ choices }: ChatCompletionChunk): boolean {
  return choices.some(({ delta }) => (delta.content ?? "") !== "" || (delta.reasoning_content ?? "") !== "");
}

/** An event's value, checked where it is used. @throws ApiRequestError, also for an event that is an error */
function chunkOf(data: string, base: URL): ChatCompletionChunk {
  let value: unknown;
  try {
    value = JSON.parse(data);
  } catch {
    throw badAnswer(base, "has an event that is not JSON");
  }
  if (!isRecord(value)) throw badAnswer(base, "has an event that is not an object");
  if (isRecord(value["error"])) throw fromBody(value["error"], 0, base);
  const { choices } = value;
  if (!Array.isArray(choices)) throw badAnswer(base, "has a chunk without choices");
  const sound = choices.every((choice: unknown) => {
    if (!isRecord(choice)) return false;
    const { delta } = choice;
    return isRecord(delta) && isText(delta["content"]) && isText(delta["reasoning_content"]);
  });
  if (!sound) throw badAnswer(base, "has a chunk whose delta is not text");
  return value as unknown as ChatCompletionChunk;
}

async function errorOf(response: Response, base: URL): Promise<ApiRequestError> {
  const { status } = response;
  const body = await readJson(response, base).catch(() => undefined);
  const error = isRecord(body) && isRecord(body["error"]) ? body["error"] : {};
  return fromBody(error, status, base);
}

function fromBody(error: Readonly<Record<string, unknown>>, status: number, base: URL): ApiRequestError {
  const text = (value: unknown): string | null => (typeof value === "string" ? value.slice(0, MAX_MESSAGE) : null);
  const message = text(error["message"]) ?? `Cannot answer: ${base.origin} said ${status}`;
  return new ApiRequestError(message, { status, code: text(error["code"]), param: text(error["param"]) });
}

async function readJson(response: Response, base: URL): Promise<unknown> {
  const bytes = await readBounded(response, MAX_ANSWER_BYTES);
  if (bytes === null) throw badAnswer(base, `has more than ${MAX_ANSWER_BYTES} bytes`);
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw badAnswer(base, "is not JSON");
  }
}

function badAnswer({ origin }: URL, what: string): ApiRequestError {
  return new ApiRequestError(`Cannot use the answer of ${origin}: it ${what}, expected OpenAI's protocol`, {
    status: 0,
    code: "bad_answer",
  });
}

function isText(value: unknown): boolean {
  return value === undefined || value === null || typeof value === "string";
}
