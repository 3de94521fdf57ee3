/** What a client did wrong, or could not be served with, in OpenAI's shape: `{ error: { message, type, param, code } }`. */

export type ApiErrorType =
  | "invalid_request_error"
  | "authentication_error"
  | "permission_error"
  | "not_found_error"
  | "rate_limit_error"
  | "timeout_error"
  | "server_error";

export interface ApiErrorDetails {
  readonly status: number;
  readonly type: ApiErrorType;
  /** Stable, for programs. */
  readonly code: string;
  /** The field that is wrong, as a path: `messages[0].role`; null where none is. */
  readonly param?: string | null;
  readonly headers?: Readonly<Record<string, string>>;
}

export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: number;
  readonly type: ApiErrorType;
  readonly code: string;
  readonly param: string | null;
  readonly headers: Readonly<Record<string, string>>;

  constructor(message: string, { status, type, code, param = null, headers = {} }: ApiErrorDetails) {
    super(message);
    this.status = status;
    this.type = type;
    this.code = code;
    this.param = param;
    this.headers = headers;
  }
}

/** 400: a field is not what it must be. */
export function invalidField(param: string, message: string, code = "invalid_value"): ApiError {
  return new ApiError(message, { status: 400, type: "invalid_request_error", code, param });
}

export interface ErrorBody {
  readonly error: { readonly message: string; readonly type: string; readonly param: string | null; readonly code: string | null };
}

export function errorBody({ message, type, param, code }: ApiError): ErrorBody {
  return { error: { message, type, param, code } };
}

export function errorResponse(error: ApiError): Response {
  return Response.json(errorBody(error), { status: error.status, headers: error.headers });
}

interface Coded {
  readonly name: string;
  readonly message: string;
  readonly code?: unknown;
  readonly field?: unknown;
}

/** What of a request an error of the engine or of the template is about. */
export interface FaultFields {
  /** Holds the text: meant where the error names no field. */
  readonly textField: string;
  /** Says what the answer must be. */
  readonly constraintField: string;
}

/**
 * Whatever was thrown while a request was served. Errors are told by name and code, since those of a worker have lost their class.
 * @returns undefined for a fault that is not the client's
 */
export function clientFault(error: unknown, { textField, constraintField }: FaultFields): ApiError | undefined {
  if (error instanceof ApiError) return error;
  if (!(error instanceof Error)) return undefined;
  const { name, message, code, field }: Coded = error;
  if (name === "TokenizerError") {
    const place = typeof field === "string" && field.startsWith(textField) ? field : textField;
    return invalidField(place, about(place, message));
  }
  if (name !== "EngineError") return undefined;
  const place = (field === "constraint" ? constraintField : apiField(field)) ?? textField;
  if (code === "prompt-too-long") return invalidField(textField, about(textField, message), "context_length_exceeded");
  if (code === "bad-request") return invalidField(place, about(place, message));
  if (code === "busy" || code === "closed") return unavailable(message);
  return undefined;
}

/** What engine and template say, about the field that the client knows: their own words for it are others, and grammars' compilers do not say what they expect. */
function about(field: string, message: string): string {
  const named = message.includes(`'${field}'`) ? message : `Cannot use '${field}': ${message.replace(/^Cannot [^:]*: /, "")}`;
  return /\bexpected\b/.test(named) ? named : `${named}, expected what can be followed`;
}

/** 503: this server takes no more requests. */
export function unavailable(message: string): ApiError {
  return new ApiError(message, { status: 503, type: "server_error", code: "unavailable", headers: { "retry-after": "5" } });
}

/** 500, without the inside's words: they go to the log. */
export function serverFault(): ApiError {
  return new ApiError("Cannot answer: something failed in the server, expected to work when tried again", {
    status: 500,
    type: "server_error",
    code: "internal_error",
  });
}

/** The request's name for a field of the engine's: `topLogprobs` is `top_logprobs`. */
function apiField(field: unknown): string | undefined {
  if (typeof field !== "string") return undefined;
  // A path within the request is the request's own word.
  return /[.[]/.test(field) ? field : field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
