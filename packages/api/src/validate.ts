/** Checks a body against a schema; what is wrong becomes one error that names the field, what it is and what was expected. */
import type { z } from "zod";
import { type ApiError, invalidField } from "./errors.ts";
import { fieldName } from "./fieldName.ts";

type Issue = z.core.$ZodIssue;
type Path = readonly PropertyKey[];

/** @throws ApiError 400 for the first field that is wrong */
export function validate<Schema extends z.ZodType>(schema: Schema, body: unknown): z.infer<Schema> {
  if (typeof body !== "object" || body === null || Array.isArray(body))
    throw invalidField("body", `Cannot use the request: its body is ${shown(body)}, expected an object`, "invalid_type");
  const fields = withoutNulls(body);
  const result = schema.safeParse(fields);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw issue === undefined ? invalidField("body", "Cannot use the request: it is not as expected") : refusal(issue, [], fields);
}

/** Clients write null for what they leave open. */
function withoutNulls(body: object): Record<string, unknown> {
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== null));
}

function refusal(issue: Issue, parent: Path, body: unknown): ApiError {
  const path = [...parent, ...issue.path];
  if (issue.code === "unrecognized_keys") {
    const field = fieldName([...path, issue.keys[0] ?? ""]);
    return invalidField(field, `Cannot use the request: it has the field '${field}', expected none of that name`, "unknown_parameter");
  }
  if (issue.code === "invalid_union") {
    const deepest = deepestBranch(issue.errors, path, body);
    if (deepest) return deepest;
  }
  const field = fieldName(path);
  const value = valueAt(body, path);
  if (value === undefined)
    return invalidField(
      field,
      `Cannot use the request: '${field}' is missing, expected ${expectation(issue)}`,
      "missing_required_parameter",
    );
  return invalidField(field, `Cannot use the request: '${field}' is ${shown(value)}, expected ${expectation(issue)}`, codeOf(issue));
}

/** A value that is right as a whole and wrong inside was meant to be of that kind: the branch that looked furthest in tells most. */
function deepestBranch(branches: readonly (readonly Issue[])[], path: Path, body: unknown): ApiError | undefined {
  let best: Issue | undefined;
  for (const [issue] of branches) {
    if (issue === undefined) continue;
    const value = valueAt(body, [...path, ...issue.path]);
    const wrongKind = issue.path.length === 0 && issue.code === "invalid_type" && value !== undefined;
    if (wrongKind) continue;
    // Of branches that are told apart by a value, the one that has it.
    const deeper = best === undefined || issue.path.length > best.path.length;
    if (deeper || (best?.code === "invalid_value" && issue.code !== "invalid_value" && issue.path.length === best.path.length))
      best = issue;
  }
  return best && refusal(best, path, body);
}

function expectation(issue: Issue): string {
  switch (issue.code) {
    case "invalid_type":
      return kind(issue.expected);
    case "too_small":
      return `${issue.inclusive === false ? "more than" : "at least"} ${issue.minimum}${unit(issue.origin)}`;
    case "too_big":
      return `${issue.inclusive === false ? "less than" : "at most"} ${issue.maximum}${unit(issue.origin)}`;
    case "invalid_value":
      return issue.values.map((value) => JSON.stringify(value)).join(" or ");
    case "invalid_union":
      return issue.errors.map(([inner]) => (inner ? expectation(inner) : "something else")).join(" or ");
    case "invalid_key":
      return issue.issues[0] ? expectation(issue.issues[0]) : "another name";
    case "custom":
    case "invalid_element":
    case "invalid_format":
    case "not_multiple_of":
    case "unrecognized_keys":
      return issue.message;
  }
}

function unit(origin: string): string {
  if (origin === "string") return " characters";
  return origin === "array" ? " items" : "";
}

function kind(expected: string): string {
  if (expected === "int") return "an integer";
  if (expected === "boolean") return "true or false";
  if (expected === "record") return "an object";
  return /^[aeiou]/.test(expected) ? `an ${expected}` : `a ${expected}`;
}

function codeOf({ code }: Issue): string {
  return code === "invalid_type" || code === "invalid_union" ? "invalid_type" : "invalid_value";
}

function valueAt(body: unknown, path: Path): unknown {
  let value = body;
  for (const key of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return undefined;
    value = (value as Record<PropertyKey, unknown>)[key];
  }
  return value;
}

/** A value as it may stand in a message: one line, bounded; of objects and arrays only the kind. */
export function shown(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value === "string") return value.length > 80 ? `text of ${value.length} characters` : JSON.stringify(value);
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value === "number" || typeof value === "boolean" || typeof value === "bigint") return String(value);
  return "an object";
}
