/**
 * A JSON Schema as far as a grammar can enforce it. What xgrammar (0.1.27) leaves aside, or gets wrong, is taken out here, after a look at each keyword with random answers: ranges
 * of fractional numbers lose their decimal point, strings with a length may hold raw control characters, and much else is ignored without a word. What is left only admits values
 * that the schema admits, but for what was taken out; `strict` refuses a schema where that is anything. Where a schema leaves things open, fewer values may be written than it admits.
 */
import { EngineError } from "../errors.ts";
import { jsonPattern, lengthPattern } from "./pattern.ts";

export interface SchemaOptions {
  /** What the request calls the schema: errors name places in it. */
  readonly field: string;
  readonly strict: boolean;
}

type Json = Readonly<Record<string, unknown>>;
type Type = "object" | "array" | "string" | "integer" | "number" | "boolean" | "null";

const MOST_NODES = 2000;
const TYPES: readonly string[] = ["object", "array", "string", "integer", "number", "boolean", "null"] satisfies readonly Type[];
/** xgrammar copies names into its own text as they are. */
const NEEDS_ESCAPE = /["\\\p{Cc}]/u;
/** Their texts hold nothing that JSON escapes. */
const FORMATS: ReadonlySet<unknown> = new Set(["date", "time", "date-time", "uuid", "ipv4", "ipv6"]);
const OF_TYPE: Readonly<Record<"object" | "array" | "string" | "number", readonly string[]>> = {
  object: ["properties", "required", "additionalProperties", "patternProperties", "minProperties", "maxProperties", "propertyNames"],
  array: ["items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains"],
  string: ["minLength", "maxLength", "pattern", "format"],
  number: ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"],
};
const ENDS: readonly string[] = Object.values(OF_TYPE).flat();

/** @throws EngineError named bad-request, whose field is the place in the schema */
export function enforceableSchema(schema: Json, options: SchemaOptions): unknown {
  return new Enforcer(schema, options).root();
}

class Enforcer {
  readonly #schema: Json;
  readonly #options: SchemaOptions;
  #nodes = 0;

  constructor(schema: Json, options: SchemaOptions) {
    this.#schema = schema;
    this.#options = options;
  }

  root(): unknown {
    const { field } = this.#options;
    const root = this.#node(this.#schema, field);
    const definitions = Object.fromEntries(
      ["$defs", "definitions"].flatMap((name) => {
        const all = this.#schema[name];
        return isObject(all) ? [[name, this.#each(all, `${field}.${name}`)]] : [];
      }),
    );
    return root === true ? { ...definitions } : { ...(root as Json), ...definitions };
  }

  #each(schemas: Json, place: string): Json {
    return Object.fromEntries(Object.entries(schemas).map(([name, schema]) => [name, this.#node(schema, `${place}.${name.slice(0, 80)}`)]));
  }

  #node(schema: unknown, place: string): unknown {
    if (++this.#nodes > MOST_NODES) this.#refuse(this.#options.field, `it has more than ${MOST_NODES} parts, expected at most that`);
    if (schema === true) return true;
    if (schema === false) this.#refuse(place, "it is false, which nothing follows, expected a schema");
    if (!isObject(schema)) return this.#refuse(place, "it is no schema, expected an object or true");
    for (const name of ["not", "if", "then", "else", "dependentRequired", "dependentSchemas", "$dynamicRef"])
      if (schema[name] !== undefined) this.#drop(place, name);
    if (schema["$ref"] !== undefined) return this.#reference(schema, place);
    if (schema["const"] !== undefined || schema["enum"] !== undefined) return this.#values(schema, place);
    for (const name of ["anyOf", "oneOf", "allOf"] as const) if (schema[name] !== undefined) return this.#combined(schema, name, place);
    const type = schema["type"] ?? inferredType(schema);
    if (type === undefined) return true;
    if (!Array.isArray(type)) return this.#typed(schema, type, place);
    if (type.length === 0) this.#refuse(`${place}.type`, "it is an empty array, expected types");
    return { anyOf: type.map((one: unknown) => this.#typed(schema, one, place)) };
  }

  #reference(schema: Json, place: string): Json {
    const { $ref } = schema;
    this.#dropSiblings(schema, place);
    const [name, of = "", ...more] = typeof $ref === "string" ? $ref.slice(2).split("/") : [];
    if ($ref === "#") return { $ref };
    const all = name === "$defs" || name === "definitions" ? this.#schema[name] : undefined;
    if (typeof $ref === "string" && $ref.startsWith("#/") && more.length === 0 && isObject(all) && Object.hasOwn(all, of)) return { $ref };
    return this.#refuse(`${place}.$ref`, "it points to no schema of '#/$defs' or '#/definitions', expected one that is there");
  }

  #values(schema: Json, place: string): Json {
    const { const: only, enum: some, type } = schema;
    if (some !== undefined && (!Array.isArray(some) || some.length === 0))
      this.#refuse(`${place}.enum`, "it is no list of values, expected one");
    this.#dropSiblings(schema, place);
    const listed: readonly unknown[] = Array.isArray(some) ? (some as unknown[]) : [only];
    const types = type === undefined ? undefined : Array.isArray(type) ? (type as unknown[]) : [type];
    const values = listed.filter(
      (value) =>
        (only === undefined || JSON.stringify(value) === JSON.stringify(only)) && (types?.some((one) => isOfType(value, one)) ?? true),
    );
    return values.length > 0 ? { enum: values } : this.#refuse(place, "no value follows both its type and its values, expected one");
  }

  #combined(schema: Json, name: "anyOf" | "oneOf" | "allOf", place: string): unknown {
    const parts = schema[name];
    if (!Array.isArray(parts) || parts.length === 0) return this.#refuse(`${place}.${name}`, "it is no list of schemas, expected one");
    const options = parts as readonly unknown[];
    if (name === "allOf" && options.length > 1) {
      this.#drop(place, "allOf");
      return this.#node({ ...schema, allOf: undefined }, place);
    }
    const typeOnly = schema["type"] !== undefined && options.every((one) => isObject(one) && one["type"] === schema["type"]);
    this.#dropSiblings(schema, place, typeOnly);
    if (name === "oneOf" && options.some((one, i) => options.slice(i + 1).some((other) => !areApart(one, other))))
      this.#drop(place, "oneOf");
    const nodes = options.map((one, i) => this.#node(one, `${place}.${name}[${i}]`));
    return name === "allOf" ? nodes[0] : { anyOf: nodes };
  }

  #typed(schema: Json, type: unknown, place: string): Json {
    switch (type) {
      case "object":
        return this.#object(schema, place);
      case "array":
        return this.#array(schema, place);
      case "string":
        return this.#string(schema, place);
      case "integer":
        return this.#integer(schema, place);
      case "number":
        for (const name of OF_TYPE.number) if (schema[name] !== undefined) this.#drop(place, name);
        return { type };
      case "boolean":
      case "null":
        return { type };
      default:
        return this.#refuse(`${place}.type`, `it is ${JSON.stringify(type)?.slice(0, 80)}, expected ${TYPES.join(", ")}`);
    }
  }

  #object(schema: Json, place: string): Json {
    const { properties = {}, required = [], additionalProperties, patternProperties } = schema;
    if (!isObject(properties)) return this.#refuse(`${place}.properties`, "it is no object, expected one");
    if (!Array.isArray(required) || required.some((name) => typeof name !== "string"))
      return this.#refuse(`${place}.required`, "it is no list of names, expected one");
    for (const name of ["propertyNames", "patternProperties"]) if (schema[name] !== undefined) this.#drop(place, name);
    const named: Record<string, unknown> = { ...this.#each(properties, `${place}.properties`) };
    const open = additionalProperties !== undefined && additionalProperties !== false;
    const others = open ? this.#node(additionalProperties, `${place}.additionalProperties`) : false;
    for (const name of required as readonly string[]) {
      if (Object.hasOwn(named, name)) continue;
      if (additionalProperties === false && patternProperties === undefined)
        this.#refuse(`${place}.required`, `it names '${name.slice(0, 80)}', which there may not be, expected one of the properties`);
      named[name] = open ? others : true;
    }
    for (const name of Object.keys(named)) {
      if (!NEEDS_ESCAPE.test(name)) continue;
      if (required.includes(name))
        this.#refuse(`${place}.required`, "it names a property with a quote, backslash or control character, which cannot be written here");
      delete named[name];
    }
    const names = Object.keys(named);
    // With both, a name may be written twice.
    const only = names.length > 0 && this.#options.strict;
    return {
      type: "object",
      ...(names.length > 0 && { properties: named, required }),
      additionalProperties:
        names.length === 0 && additionalProperties === undefined && !("properties" in schema) ? true : only ? false : others,
      ...this.#bounds(schema, "minProperties", "maxProperties", place),
    };
  }

  #array(schema: Json, place: string): Json {
    for (const name of ["uniqueItems", "contains", "minContains", "maxContains", "unevaluatedItems"])
      if (schema[name] !== undefined && schema[name] !== false) this.#drop(place, name);
    const { prefixItems = [], items } = schema;
    if (!Array.isArray(prefixItems)) return this.#refuse(`${place}.prefixItems`, "it is no list of schemas, expected one");
    const first = (prefixItems as readonly unknown[]).map((one, i) => this.#node(one, `${place}.prefixItems[${i}]`));
    const bounds = this.#bounds(schema, "minItems", "maxItems", place);
    const least = bounds["minItems"] ?? 0;
    if (items === false && least > first.length) this.#refuse(`${place}.minItems`, `it is ${least}, expected at most ${first.length}`);
    const rest =
      items === undefined ? first.length === 0 || least > first.length : items === false ? false : this.#node(items, `${place}.items`);
    return { type: "array", ...(first.length > 0 && { prefixItems: first }), items: rest, ...bounds };
  }

  #string(schema: Json, place: string): Json {
    const { pattern, format } = schema;
    const { minLength, maxLength } = this.#bounds(schema, "minLength", "maxLength", place);
    const bounded = minLength !== undefined || maxLength !== undefined;
    if (pattern !== undefined) {
      const made = typeof pattern === "string" ? jsonPattern(pattern) : undefined;
      if (made !== undefined) {
        if (bounded) this.#drop(place, minLength === undefined ? "maxLength" : "minLength");
        if (format !== undefined) this.#drop(place, "format");
        return { type: "string", pattern: made };
      }
      this.#drop(place, "pattern");
    }
    if (bounded) {
      if (format !== undefined) this.#drop(place, "format");
      return { type: "string", pattern: lengthPattern(minLength ?? 0, maxLength) };
    }
    if (format !== undefined && !FORMATS.has(format)) this.#drop(place, "format");
    return FORMATS.has(format) ? { type: "string", format } : { type: "string" };
  }

  #integer(schema: Json, place: string): Json {
    if (schema["multipleOf"] !== undefined && schema["multipleOf"] !== 1) this.#drop(place, "multipleOf");
    const bound = (name: string, round: (value: number) => number): number | undefined => {
      const value = schema[name];
      if (value === undefined) return undefined;
      if (typeof value !== "number" || !Number.isSafeInteger(round(value)))
        return this.#refuse(`${place}.${name}`, "it is no number that a float holds exactly, expected one");
      return round(value);
    };
    const least = [bound("minimum", Math.ceil), bound("exclusiveMinimum", (value) => Math.floor(value) + 1)].filter(
      (one) => one !== undefined,
    );
    const most = [bound("maximum", Math.floor), bound("exclusiveMaximum", (value) => Math.ceil(value) - 1)].filter(
      (one) => one !== undefined,
    );
    if (least.length + most.length === 0) return { type: "integer" };
    // xgrammar writes numbers outside of a range that has one end only.
    const [minimum, maximum] = [Math.max(Number.MIN_SAFE_INTEGER, ...least), Math.min(Number.MAX_SAFE_INTEGER, ...most)];
    if (minimum > maximum) this.#refuse(place, "its least value is above its greatest, expected some between them");
    return { type: "integer", minimum, maximum };
  }

  #bounds(schema: Json, leastName: string, mostName: string, place: string): Readonly<Record<string, number>> {
    const bounds: Record<string, number> = {};
    for (const name of [leastName, mostName]) {
      const value = schema[name];
      if (value === undefined) continue;
      if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0)
        return this.#refuse(`${place}.${name}`, "it is no count, expected an integer from 0 on");
      bounds[name] = value;
    }
    const [least = 0, most = Number.POSITIVE_INFINITY] = [bounds[leastName], bounds[mostName]];
    if (least > most) this.#refuse(`${place}.${mostName}`, `it is ${most}, expected at least ${least}`);
    return bounds;
  }

  /** What stands beside a reference, values or alternatives, and would say more than they do. */
  #dropSiblings(schema: Json, place: string, typeToo = false): void {
    const [kind = ""] = ["$ref", "const", "enum", "anyOf", "oneOf", "allOf"].filter((name) => schema[name] !== undefined);
    const ofValues = kind === "const" || kind === "enum";
    for (const name of [...ENDS, "anyOf", "oneOf", "allOf", ...(ofValues || typeToo ? [] : ["type"])])
      if (name !== kind && schema[name] !== undefined) this.#drop(place, name);
  }

  #drop(place: string, name: string): void {
    if (this.#options.strict)
      this.#refuse(`${place}.${name}`, "it cannot be enforced here, expected a schema without it, or 'strict' not to be true");
  }

  #refuse(field: string, what: string): never {
    throw new EngineError("bad-request", `Cannot use '${field}': ${what}`, { field });
  }
}

/** Schemas often leave out a type that their keywords imply; what they imply admits less, and never more. */
function inferredType(schema: Json): Type | undefined {
  for (const [type, names] of Object.entries(OF_TYPE)) if (names.some((name) => schema[name] !== undefined)) return type as Type;
  return undefined;
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isOfType(value: unknown, type: unknown): boolean {
  if (type === "null") return value === null;
  if (type === "array") return Array.isArray(value);
  if (type === "object") return isObject(value);
  if (type === "integer") return Number.isInteger(value);
  return typeof value === type;
}

/** Whether no value can follow both: by their types, their values, or a property that both must have. */
function areApart(one: unknown, other: unknown): boolean {
  if (!isObject(one) || !isObject(other)) return false;
  const [values, others] = [valuesOf(one), valuesOf(other)];
  if (values && others) return [...values].every((value) => !others.has(value));
  const [types, otherTypes] = [typesOf(one), typesOf(other)];
  if (types && otherTypes && types.every((type) => !otherTypes.includes(type))) return true;
  const [required, otherRequired] = [one["required"], other["required"]];
  if (!Array.isArray(required) || !Array.isArray(otherRequired)) return false;
  return required.some((name: unknown) => {
    if (typeof name !== "string" || !otherRequired.includes(name)) return false;
    const [property, otherProperty] = [one, other].map(({ properties }) => (isObject(properties) ? properties[name] : undefined));
    return areApart(property, otherProperty);
  });
}

function valuesOf(schema: Json): Set<string> | undefined {
  const values: unknown = schema["const"] === undefined ? schema["enum"] : [schema["const"]];
  return Array.isArray(values) ? new Set(values.map((value) => JSON.stringify(value))) : undefined;
}

/** An integer is a number too. */
function typesOf(schema: Json): readonly unknown[] | undefined {
  const { type } = schema;
  if (type === undefined) return undefined;
  return (Array.isArray(type) ? (type as unknown[]) : [type]).map((one) => (one === "integer" ? "number" : one));
}
