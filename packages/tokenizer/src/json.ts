/**
 * Reading fields of untrusted JSON: each function returns the value in its type or throws a `TokenizerError` that names the field.
 * Knows nothing of tokenizers.
 */
import { describe, TokenizerError } from "./error.ts";

export type JsonObject = Readonly<Record<string, unknown>>;

/** Where a value stands: `action` and `field` go into the error. */
export interface Place {
  readonly action: string;
  readonly field: string;
}

export function at(place: Place, key: string | number): Place {
  const suffix = typeof key === "number" ? `[${key}]` : `.${key}`;
  return { action: place.action, field: place.field === "" ? String(key) : `${place.field}${suffix}` };
}

export function fail(place: Place, value: unknown, expected: string): never {
  throw new TokenizerError(place.action, place.field, describe(value), expected);
}

/** Parses text of at most `maxLength` UTF-16 units whose root is an object. */
export function parseObject(text: string, maxLength: number, place: Place): JsonObject {
  if (typeof text !== "string") fail(place, text, "a string of JSON");
  if (text.length > maxLength) {
    throw new TokenizerError(place.action, place.field, `${text.length} characters`, `at most ${maxLength}`);
  }
  let root: unknown;
  try {
    root = JSON.parse(text);
  } catch (cause) {
    throw new TokenizerError(place.action, place.field, `not JSON (${describe(text.slice(0, 40))})`, "a JSON object", cause);
  }
  return asObject(root, place);
}

export function asObject(value: unknown, place: Place): JsonObject {
  if (typeof value !== "object" || value === null || Array.isArray(value)) fail(place, value, "an object");
  return value as JsonObject;
}

export function asArray(value: unknown, maxLength: number, place: Place): readonly unknown[] {
  if (!Array.isArray(value)) fail(place, value, "an array");
  if (value.length > maxLength) fail(place, value, `an array of at most ${maxLength}`);
  return value;
}

export function asString(value: unknown, maxLength: number, place: Place): string {
  if (typeof value !== "string") fail(place, value, "a string");
  if (value.length > maxLength) fail(place, value, `a string of at most ${maxLength} characters`);
  return value;
}

/** A missing or null field counts as false, as in Hugging Face's reader. */
export function asFlag(value: unknown, place: Place): boolean {
  if (value === undefined || value === null) return false;
  if (typeof value !== "boolean") fail(place, value, "true or false");
  return value;
}

export function asIndex(value: unknown, limit: number, place: Place): number {
  if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value >= limit) {
    fail(place, value, `an integer from 0 to ${limit - 1}`);
  }
  return value;
}
