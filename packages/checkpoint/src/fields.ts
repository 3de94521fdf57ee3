/**
 * Reads fields out of a parsed JSON object and checks each as it goes. A field that is absent or null takes the default, if it has one.
 * Every failure is a `ConfigError` with the field's path, what it holds and what it may hold.
 */
import { ConfigError } from "./error.ts";

export interface Range {
  readonly min: number;
  readonly max: number;
}

export class Fields {
  readonly file: string;
  readonly #values: Record<string, unknown>;
  readonly #prefix: string;

  /** @throws {ConfigError} where `value` is not an object. */
  constructor(value: unknown, file: string, path = "") {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw new ConfigError(file, path, `is ${show(value)}`, "an object");
    }
    this.#values = value as Record<string, unknown>;
    this.#prefix = path === "" ? "" : `${path}.`;
    this.file = file;
  }

  keys(): readonly string[] {
    return Object.keys(this.#values);
  }

  /** The raw value; null where the field is absent. */
  get(key: string): unknown {
    return Object.hasOwn(this.#values, key) ? (this.#values[key] ?? null) : null;
  }

  fail(key: string, expected: string): ConfigError {
    const value = this.get(key);
    return new ConfigError(this.file, this.#prefix + key, value === null ? "is missing" : `is ${show(value)}`, expected);
  }

  int(key: string, range: Range, fallback?: number): number {
    const value = this.get(key) ?? fallback;
    if (typeof value === "number" && Number.isSafeInteger(value) && value >= range.min && value <= range.max) return value;
    throw this.fail(key, `an integer from ${range.min} to ${range.max}`);
  }

  /** A finite number in the half-open range (min, max], or [min, max] with `inclusive`. */
  float(key: string, range: Range & { readonly inclusive?: boolean }, fallback?: number): number {
    const value = this.get(key) ?? fallback;
    const inRange = typeof value === "number" && value <= range.max && (range.inclusive === true ? value >= range.min : value > range.min);
    if (inRange) return value;
    throw this.fail(key, `a number ${range.inclusive === true ? "from" : "above"} ${range.min} up to ${range.max}`);
  }

  bool(key: string, fallback?: boolean): boolean {
    const value = this.get(key) ?? fallback;
    if (typeof value === "boolean") return value;
    throw this.fail(key, "true or false");
  }

  oneOf<T extends string>(key: string, allowed: readonly T[], fallback?: T): T {
    const value = this.get(key) ?? fallback;
    const found = allowed.find((item) => item === value);
    if (found !== undefined) return found;
    throw this.fail(key, allowed.map((item) => `'${item}'`).join(" or "));
  }

  object(key: string): Fields | null {
    const value = this.get(key);
    return value === null ? null : new Fields(value, this.file, this.#prefix + key);
  }

  /** One integer or a list of them, as `eos_token_id` is written. */
  ints(key: string, range: Range): readonly number[] {
    const value = this.get(key);
    if (value === null) return [];
    const items: readonly unknown[] = Array.isArray(value) ? value : [value];
    const valid = items.every((item) => typeof item === "number" && Number.isSafeInteger(item) && item >= range.min && item <= range.max);
    if (valid && items.length <= 64) return items as readonly number[];
    throw this.fail(key, `integers from ${range.min} to ${range.max}`);
  }
}

/** A value from a file as it may stand in a message: quoted, bounded. */
export function show(value: unknown): string {
  const text = typeof value === "string" ? `'${value}'` : (JSON.stringify(value) ?? String(value));
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
