/**
 * Errors between the main thread and the worker: name, message, stack, cause and plain fields (`code`, `needed`, `available`, ...) are kept, where comlink alone
 * keeps message, name and stack. Installed on both sides. The class is not kept: callers go by `name` and `code`.
 */
import { transferHandlers } from "comlink";

export interface ErrorRecord {
  readonly name: string;
  readonly message: string;
  readonly stack: string | undefined;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly cause: ErrorRecord | undefined;
}

const KEPT_TYPES: readonly string[] = ["string", "number", "bigint", "boolean"];
/** A cause of a cause of a cause says nothing new, and may be a cycle. */
const MAX_DEPTH = 4;

export function errorToRecord(error: unknown, depth = 0): ErrorRecord {
  if (!(error instanceof Error) && !isErrorLike(error)) {
    return { name: "Error", message: String(error), stack: undefined, fields: {}, cause: undefined };
  }
  const own = Object.entries(error).filter(
    ([key, value]) => !["name", "message", "stack", "cause"].includes(key) && KEPT_TYPES.includes(typeof value),
  );
  const cause: unknown = "cause" in error ? error.cause : undefined;
  return {
    name: error.name,
    message: error.message,
    stack: "stack" in error && typeof error.stack === "string" ? error.stack : undefined,
    fields: Object.fromEntries(own),
    cause: cause === undefined || depth >= MAX_DEPTH ? undefined : errorToRecord(cause, depth + 1),
  };
}

export function recordToError({ name, message, stack, fields, cause }: ErrorRecord): Error {
  const error = new Error(message, cause === undefined ? undefined : { cause: recordToError(cause) });
  Object.defineProperty(error, "name", { value: name, configurable: true, writable: true });
  if (stack !== undefined) error.stack = stack;
  return Object.assign(error, fields);
}

/** WebGPU's errors are not always instances of Error. */
function isErrorLike(error: unknown): error is { readonly name: string; readonly message: string } {
  return typeof error === "object" && error !== null && "message" in error && typeof error.message === "string" && "name" in error;
}

export function installErrorTransfer(): void {
  const original = transferHandlers.get("throw");
  if (!original) throw new Error("Cannot install the error handler: comlink has none named 'throw'");
  transferHandlers.set("throw", {
    canHandle: (value): value is unknown => original.canHandle(value),
    serialize: (thrown: unknown) => [errorToRecord((thrown as { readonly value: unknown }).value), []],
    deserialize(record: ErrorRecord): never {
      throw recordToError(record);
    },
  });
}
