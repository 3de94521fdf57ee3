/** What an answer's content must be, as a request says it. */
import { enforceableSchema, type OutputGrammar } from "@shoal/engine";
import { invalidField } from "./errors.ts";
import { jsonDepth } from "./json.ts";
import { DEFAULT_LIMITS } from "./limits.ts";
import type { ChatRequest } from "./schemas/chat.ts";
import type { GenerationFields } from "./schemas/common.ts";

export interface ContentGrammar {
  readonly grammar: OutputGrammar;
  /** Of the request, for errors. */
  readonly field: string;
}

/** @throws ApiError 400; EngineError for a schema that cannot be followed */
export function contentGrammar({
  response_format: format,
  structured_outputs: structured,
}: Pick<GenerationFields, "structured_outputs"> & Pick<ChatRequest, "response_format">): ContentGrammar | undefined {
  if (structured && format && format.type !== "text")
    throw invalidField("structured_outputs", "Cannot use 'structured_outputs' beside 'response_format', expected one of them");
  if (structured) return structuredGrammar(structured);
  if (!format || format.type === "text") return undefined;
  if (format.type === "json_object") return { grammar: { kind: "json-object" }, field: "response_format" };
  const { schema, strict } = format.json_schema;
  if (!schema) return { grammar: { kind: "json-object" }, field: "response_format.json_schema" };
  return schemaGrammar(schema, "response_format.json_schema.schema", strict === true);
}

function structuredGrammar({ json, regex, choice, grammar }: NonNullable<GenerationFields["structured_outputs"]>): ContentGrammar {
  if (json !== undefined) return schemaGrammar(typeof json === "string" ? parsed(json) : json, "structured_outputs.json", false);
  if (regex !== undefined) return { grammar: { kind: "regex", pattern: regex }, field: "structured_outputs.regex" };
  if (grammar !== undefined) return { grammar: { kind: "ebnf", text: grammar }, field: "structured_outputs.grammar" };
  const parts = (choice ?? []).map((text): OutputGrammar => ({ kind: "text", text }));
  return { grammar: { kind: "either", parts }, field: "structured_outputs.choice" };
}

function schemaGrammar(schema: Readonly<Record<string, unknown>>, field: string, strict: boolean): ContentGrammar {
  return { grammar: { kind: "json-schema", schema: JSON.stringify(enforceableSchema(schema, { field, strict })) }, field };
}

function parsed(text: string): Readonly<Record<string, unknown>> {
  const refuse = (what: string): never => {
    throw invalidField("structured_outputs.json", `Cannot use 'structured_outputs.json': it is ${what}, expected a JSON Schema`);
  };
  if (jsonDepth(text, DEFAULT_LIMITS.maxJsonDepth) > DEFAULT_LIMITS.maxJsonDepth) return refuse("nested too deep");
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return refuse("no JSON");
  }
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : refuse("no object");
}
