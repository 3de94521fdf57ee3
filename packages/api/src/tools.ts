/** A chat's tools: what the model is shown of them, what of its answer is a call, and what a call must be. */
import type { OutputConstraint, OutputGrammar } from "@shoal/engine";
import { enforceableSchema } from "@shoal/engine";
import { callLayout, type ToolCallOptions, type ToolFormat, toolMarks } from "@shoal/tokenizer";
import { invalidField } from "./errors.ts";
import { FIELD_LIMITS } from "./limits.ts";
import type { ChatRequest, RequestTool } from "./schemas/chat.ts";
import { shown } from "./validate.ts";

export interface ToolPlan {
  /** As templates take them; undefined where the model is not to know of any. */
  readonly shown: readonly RequestTool[] | undefined;
  /** Undefined where nothing of the answer is a call. */
  readonly read: ToolCallOptions | undefined;
  /** The answer is nothing but calls, or may be some. */
  readonly calls: CallGrammar | undefined;
}

export interface CallGrammar {
  /** All of the calls, their marks included. */
  readonly whole: OutputGrammar;
  /** After the first mark. */
  readonly rest: OutputGrammar;
  readonly required: boolean;
  /** Whether the calls follow the grammar where the model may choose to make none. */
  readonly strict: boolean;
}

const NO_ARGUMENTS = { type: "object", properties: {}, additionalProperties: false };

/** @throws ApiError 400; EngineError for a schema that cannot be followed */
export function planTools(
  { tools = [], tool_choice: choice, parallel_tool_calls: parallel }: Pick<ChatRequest, "tools" | "tool_choice" | "parallel_tool_calls">,
  format: ToolFormat,
): ToolPlan {
  checkTools(tools);
  const named = typeof choice === "object" ? choice.function.name : undefined;
  const required = choice === "required" || named !== undefined;
  if (required && tools.length === 0)
    throw invalidField("tool_choice", "Cannot use 'tool_choice': there are no tools, expected some in 'tools'");
  if (tools.length === 0 || choice === "none") return { shown: undefined, read: undefined, calls: undefined };
  const wanted = named === undefined ? tools : tools.filter(({ function: { name } }) => name === named);
  if (wanted.length === 0)
    throw invalidField(
      "tool_choice.function.name",
      `Cannot use 'tool_choice.function.name': no tool is named '${named}', expected one of 'tools'`,
    );
  const strict = tools.some((tool) => tool.function.strict === true);
  const one = parallel === false || named !== undefined;
  const names = tools.map(({ function: { name } }) => name);
  return {
    shown: tools.map(({ type, function: { name, description, parameters } }) => ({
      type,
      function: { name, ...(description && { description }), ...(parameters && { parameters }) },
    })),
    read: { format, names, ...(one && { mostCalls: 1 }) },
    calls: required || strict ? { ...callGrammar(tools, wanted, { format, one, required }), required, strict } : undefined,
  };
}

function checkTools(tools: readonly RequestTool[]): void {
  const names = new Set<string>();
  for (const [i, tool] of tools.entries()) {
    const { name } = tool.function;
    if (names.has(name))
      throw invalidField(
        `tools[${i}].function.name`,
        `Cannot use 'tools[${i}].function.name': two tools are named '${name}', expected a name for each`,
      );
    names.add(name);
  }
  const length = JSON.stringify(tools).length;
  if (length > FIELD_LIMITS.toolsLength)
    throw invalidField("tools", `Cannot use 'tools': they have ${length} characters, expected at most ${FIELD_LIMITS.toolsLength}`);
}

/** @param all for the places of the wanted ones among them, which errors name */
function callGrammar(
  all: readonly RequestTool[],
  wanted: readonly RequestTool[],
  { format, one, required }: { readonly format: ToolFormat; readonly one: boolean; readonly required: boolean },
): Pick<CallGrammar, "whole" | "rest"> {
  const item: OutputGrammar = {
    kind: "either",
    parts: wanted.map((tool) => {
      const { begin, end } = callLayout(format, tool.function.name);
      // A fence stands on a line of its own.
      const close = format === "v3" ? `\n${end.join("")}` : end.join("");
      return sequence([...spelled(begin), argumentsOf(tool, all.indexOf(tool), required), ...spelled(close)]);
    }),
  };
  const { between } = callLayout(format, "");
  const calls: OutputGrammar = one ? item : { kind: "list", item, between: { kind: "text", text: between } };
  const end = spelled(toolMarks.callsEnd);
  return { whole: sequence([...spelled(toolMarks.callsBegin), calls, ...end]), rest: sequence([calls, ...end]) };
}

function argumentsOf({ function: { parameters, strict } }: RequestTool, place: number, required: boolean): OutputGrammar {
  if (!required && strict !== true) return { kind: "json-object" };
  const field = `tools[${place}].function.parameters`;
  const schema = { type: "object", ...(parameters ?? NO_ARGUMENTS) };
  if (schema.type !== "object")
    throw invalidField(`${field}.type`, `Cannot use '${field}.type': it is ${shown(schema.type)}, expected "object"`);
  const enforced = enforceableSchema(schema, { field, strict: strict === true });
  return { kind: "json-schema", schema: JSON.stringify(enforced), compact: true };
}

function sequence(parts: readonly OutputGrammar[]): OutputGrammar {
  return { kind: "sequence", parts };
}

const MARKS = new RegExp(`(${Object.values(toolMarks).join("|")})`, "u");

/** A text with marks in it. */
function spelled(text: string): readonly OutputGrammar[] {
  return text
    .split(MARKS)
    .filter((part) => part !== "")
    .map((part) => ({ kind: MARKS.test(part) ? "mark" : "text", text: part }));
}

/** Where the model's calls are constrained: from the start, or from where it begins one. @param before what must have come before, such as the end of reasoning */
export function callConstraint(calls: CallGrammar, content: OutputGrammar | undefined, before: readonly string[]): OutputConstraint {
  if (calls.required) return { grammar: calls.whole, after: before };
  if (content) return { grammar: { kind: "either", parts: [calls.whole, content] }, after: before };
  return { grammar: calls.rest, after: [...before, toolMarks.callsBegin] };
}
