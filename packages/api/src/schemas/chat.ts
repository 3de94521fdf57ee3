/** POST /v1/chat/completions. */
import { z } from "zod";
import { FIELD_LIMITS } from "../limits.ts";
import { generationFields, ignoredFields, jsonSchema } from "./common.ts";

const { messages, contentParts, textLength, maxTokens, topLogprobs, nameLength, tools, templateVariables } = FIELD_LIMITS;

const text = z.string().max(textLength);
const textPart = z.object({ type: z.literal("text"), text });
const content = z.union([text, z.array(textPart).max(contentParts)]);

const toolCall = z.object({
  id: z.string().max(nameLength).optional(),
  type: z.literal("function"),
  function: z.object({ name: z.string().min(1).max(nameLength), arguments: text }),
});

const toolName = z.string().regex(/^[a-zA-Z0-9_-]{1,64}$/, "1 to 64 letters, digits, '_' and '-'");

/** Fields that a tool has besides are left out. */
export const tool = z.object({
  type: z.literal("function"),
  function: z.object({
    name: toolName,
    description: text.nullish(),
    parameters: jsonSchema.nullish().describe("A JSON Schema of the arguments; without it there are none"),
    strict: z.boolean().nullish().describe("A call's arguments follow the schema, and the schema has nothing that cannot be enforced"),
  }),
});

const responseFormat = z.union([
  z.object({ type: z.literal("text") }),
  z.object({ type: z.literal("json_object") }),
  z.object({
    type: z.literal("json_schema"),
    json_schema: z.object({
      name: z.string().max(nameLength).optional(),
      description: text.nullish(),
      schema: jsonSchema.nullish(),
      strict: z.boolean().nullish().describe("Refuses schemas with what cannot be enforced; the rest is enforced in any case"),
    }),
  }),
]);

/** Fields that a message has besides, such as `refusal` of an answer that is sent back, are left out. */
export const chatMessage = z.object({
  role: z.enum(["system", "developer", "user", "assistant", "tool"]),
  content: content.nullish(),
  name: z.string().max(nameLength).nullish(),
  reasoning_content: text.nullish().describe("Of an assistant message: its reasoning"),
  prefix: z.boolean().nullish().describe("Of the last message, an assistant's: the answer goes on from it"),
  tool_calls: z.array(toolCall).max(tools).nullish(),
  tool_call_id: z.string().max(nameLength).nullish(),
});

export const chatRequest = z.strictObject({
  messages: z.array(chatMessage).min(1).max(messages),
  ...generationFields,
  max_completion_tokens: z.int().min(1).max(maxTokens).optional().describe("As max_tokens, and wins over it"),
  logprobs: z.boolean().optional(),
  top_logprobs: z.int().min(0).max(topLogprobs).optional().describe("Only with `logprobs`"),
  thinking: z
    .strictObject({ type: z.enum(["enabled", "disabled"]) })
    .optional()
    .describe("For models that can reason before they answer, or not"),
  response_format: responseFormat.optional().describe("What the answer's content must be; its text holds nothing else"),
  tools: z.array(tool).max(tools).optional(),
  tool_choice: z
    .union([z.enum(["none", "auto", "required"]), z.object({ type: z.literal("function"), function: z.object({ name: toolName }) })])
    .optional()
    .describe("`required`, or a tool's name: the answer is a call whose arguments follow the tool's schema; `auto` where there are tools"),
  parallel_tool_calls: z.boolean().optional().describe("false: one call at most; true by default"),
  chat_template_kwargs: z
    .record(z.string().max(nameLength), z.union([z.string().max(nameLength), z.number(), z.boolean(), z.null()]))
    .refine((variables) => Object.keys(variables).length <= templateVariables, {
      error: `an object of at most ${templateVariables} fields`,
    })
    .optional()
    .describe("Variables for the chat template, such as `thinking`"),
  ...ignoredFields,
});

export type ChatRequest = z.infer<typeof chatRequest>;
/** As clients write it. */
export type ChatRequestInput = z.input<typeof chatRequest>;
export type RequestTool = z.infer<typeof tool>;
export type ChatRequestMessage = z.infer<typeof chatMessage>;
