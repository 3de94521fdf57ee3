/**
 * Errors as they cross a channel: name, message, cause and plain fields (`code`, `field`, `needed`, ...). Stacks stay where they were made, for they say nothing to the other side.
 * Classes are not kept: callers go by `name` and `code`.
 */
import { z } from "zod";

const MAX_TEXT = 4096;
const MAX_FIELDS = 16;
/** A cause of a cause of a cause says nothing new, and may be a cycle. */
const MAX_DEPTH = 3;
const FIELD_NAME = /^[a-z][A-Za-z]{0,31}$/;
const RESERVED = new Set(["name", "message", "stack", "cause", "constructor", "toString", "valueOf"]);

export interface ErrorRecord {
  readonly name: string;
  readonly message: string;
  readonly fields: Readonly<Record<string, string | number | boolean>>;
  readonly cause?: ErrorRecord | undefined;
}

export const errorRecordSchema: z.ZodType<ErrorRecord> = z.strictObject({
  name: z.string().regex(/^[A-Za-z]{1,64}$/),
  message: z.string().max(MAX_TEXT),
  fields: z
    .record(z.string().regex(FIELD_NAME), z.union([z.string().max(MAX_TEXT), z.number(), z.boolean()]))
    .refine((fields) => Object.keys(fields).length <= MAX_FIELDS && !Object.keys(fields).some((key) => RESERVED.has(key))),
  cause: z.lazy(() => errorRecordSchema.optional()),
});

export function errorToRecord(error: unknown, depth = 0): ErrorRecord {
  if (!isErrorLike(error)) return { name: "Error", message: String(error).slice(0, MAX_TEXT), fields: {} };
  const fields = Object.entries(error).filter(
    ([key, value]) =>
      FIELD_NAME.test(key) && !RESERVED.has(key) && ["string", "number", "boolean"].includes(typeof value) && !Object.is(value, Number.NaN),
  );
  const cause = "cause" in error && error.cause !== undefined && depth < MAX_DEPTH ? errorToRecord(error.cause, depth + 1) : undefined;
  return {
    name: /^[A-Za-z]{1,64}$/.test(error.name) ? error.name : "Error",
    message: error.message.slice(0, MAX_TEXT),
    fields: Object.fromEntries(
      fields.slice(0, MAX_FIELDS).map(([key, value]) => [key, typeof value === "string" ? value.slice(0, MAX_TEXT) : value]),
    ),
    ...(cause && { cause }),
  };
}

export function recordToError({ name, message, fields, cause }: ErrorRecord): Error {
  const error = new Error(message, cause && { cause: recordToError(cause) });
  Object.defineProperty(error, "name", { value: name, configurable: true, writable: true });
  return Object.assign(error, fields);
}

/** WebGPU's errors are not always instances of Error. */
function isErrorLike(error: unknown): error is { readonly name: string; readonly message: string } {
  return (
    typeof error === "object" &&
    error !== null &&
    "message" in error &&
    typeof error.message === "string" &&
    "name" in error &&
    typeof error.name === "string"
  );
}
