/** A request's body as JSON, bounded before it is read, and in depth before it is parsed. */
import { ApiError, invalidField } from "./errors.ts";
import { fieldName } from "./fieldName.ts";
import type { ApiLimits } from "./limits.ts";

/** @throws ApiError 400, 408, 413 or 415; the signal's reason */
export async function readJson(
  request: Request,
  { maxBodyBytes, maxJsonDepth, bodyTimeoutMs }: Pick<ApiLimits, "maxBodyBytes" | "maxJsonDepth" | "bodyTimeoutMs">,
): Promise<unknown> {
  const type = request.headers.get("content-type") ?? "";
  // Also keeps pages of other origins out: a form cannot send this type.
  if (!/^application\/json\s*(;|$)/i.test(type))
    throw new ApiError(`Cannot read the request: its Content-Type is '${type}', expected 'application/json'`, {
      status: 415,
      type: "invalid_request_error",
      code: "unsupported_media_type",
    });
  const bytes = await readBody(request, maxBodyBytes, bodyTimeoutMs);
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw invalidField("body", "Cannot read the request: its body is not UTF-8, expected JSON in UTF-8", "invalid_encoding");
  }
  if (jsonDepth(text, maxJsonDepth) > maxJsonDepth) throw tooDeep(text, maxJsonDepth);
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw invalidField("body", `Cannot read the request: its body is not JSON (${reason(cause)}), expected a JSON object`, "invalid_json");
  }
}

async function readBody(request: Request, maxBytes: number, timeoutMs: number): Promise<Uint8Array> {
  const declared = Number(request.headers.get("content-length") ?? 0);
  if (declared > maxBytes) throw tooLarge(`${declared}`, maxBytes);
  if (!request.body) return new Uint8Array(0);
  const reader: ReadableStreamDefaultReader<Uint8Array> = request.body.getReader();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const slow = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(tooSlow(timeoutMs)), timeoutMs);
  });
  const parts: Uint8Array[] = [];
  let size = 0;
  try {
    for (;;) {
      const { done, value } = await Promise.race([reader.read(), slow]);
      if (done) break;
      size += value.byteLength;
      if (size > maxBytes) throw tooLarge(`more than ${maxBytes}`, maxBytes);
      parts.push(value);
    }
  } catch (error) {
    reader.cancel().catch(() => {});
    throw error;
  } finally {
    clearTimeout(timer);
  }
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.byteLength;
  }
  return bytes;
}

/** Levels of arrays and objects, counted no further than one beyond `limit`. Text that is not JSON gives some number. */
export function jsonDepth(text: string, limit: number): number {
  let depth = 0;
  let deepest = 0;
  for (let i = 0; i < text.length && deepest <= limit; i++) {
    const character = text[i];
    if (character === '"') i = endOfString(text, i);
    else if (character === "[" || character === "{") deepest = Math.max(deepest, ++depth);
    else if (character === "]" || character === "}") depth--;
  }
  return deepest;
}

/** The field whose value first goes deeper than the body may; undefined where that is no object's. */
function deepField(text: string, limit: number): string | undefined {
  if (!text.trimStart().startsWith("{")) return undefined;
  let depth = 0;
  let name: string | undefined;
  for (let i = 0; i < text.length && depth <= limit; i++) {
    const character = text[i];
    if (character === '"') {
      const end = endOfString(text, i);
      // The last one before the value; a string that is a value is followed by another name.
      if (depth === 1) name = text.slice(i, end + 1);
      i = end;
    } else if (character === "[" || character === "{") depth++;
    else if (character === "]" || character === "}") depth--;
  }
  try {
    return name === undefined ? undefined : fieldName([String(JSON.parse(name))]);
  } catch {
    return undefined;
  }
}

/** Of the string that begins at `start`: where its closing quote stands. */
function endOfString(text: string, start: number): number {
  for (let i = start + 1; i < text.length; i++) {
    if (text[i] === "\\") i++;
    else if (text[i] === '"') return i;
  }
  return text.length;
}

function reason(error: unknown): string {
  // Some engines quote the whole text.
  return (error instanceof Error ? error.message : String(error)).slice(0, 120);
}

function tooDeep(text: string, most: number): ApiError {
  const field = deepField(text, most);
  const what = field === undefined ? "its body" : `'${field}'`;
  return invalidField(
    field ?? "body",
    `Cannot read the request: ${what} makes more than ${most} levels of nesting, expected at most that`,
    "too_deep",
  );
}

function tooLarge(actual: string, maxBytes: number): ApiError {
  return new ApiError(`Cannot read the request: its body has ${actual} bytes, expected at most ${maxBytes}`, {
    status: 413,
    type: "invalid_request_error",
    code: "body_too_large",
    param: "body",
  });
}

function tooSlow(timeoutMs: number): ApiError {
  return new ApiError(`Cannot read the request: its body did not arrive within ${timeoutMs} ms, expected it sooner`, {
    status: 408,
    type: "timeout_error",
    code: "request_timeout",
    param: "body",
  });
}
