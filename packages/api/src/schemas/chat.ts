/** POST /v1/chat/completions. */
import { z } from "zod";
import { FIELD_LIMITS } from "../limits.ts";
import { generationFields, ignoredFields } from "./common.ts";

const { messages, contentParts, textLength, maxTokens, topLogprobs, nameLength, tools } = FIELD_LIMITS;

const text = z.string().max(textLength);
const textPart = z.object({ type: z.literal("text"), text });
const content = z.union([text, z.array(textPart).max(contentParts)]);

const toolCall = z.object({
  id: z.string().max(nameLength).optional(),
  type: z.literal("function"),
  function: z.object({ name: z.string().min(1).max(nameLength), arguments: text }),
});

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
  response_format: z
    .object({ type: z.enum(["text", "json_object", "json_schema"]) })
    .optional()
    .describe("Only text so far"),
  tools: z.array(z.unknown()).max(tools).optional().describe("Not supported so far"),
  tool_choice: z.unknown().optional().describe("Only 'none' so far"),
  parallel_tool_calls: z.boolean().optional().describe("Without effect"),
  ...ignoredFields,
});

export type ChatRequest = z.infer<typeof chatRequest>;
/** As clients write it. */
export type ChatRequestInput = z.input<typeof chatRequest>;
export type ChatRequestMessage = z.infer<typeof chatMessage>;
