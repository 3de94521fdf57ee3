/** What the API answers with. The OpenAPI document is made from these; handlers have their types. */
import { z } from "zod";

const finishReason = z.enum(["stop", "length", "tool_calls"]);

export const toolCall = z.object({
  id: z.string(),
  type: z.literal("function"),
  function: z.object({
    name: z.string(),
    arguments: z.string().describe("JSON as the model wrote it: not checked unless it was constrained"),
  }),
});

/** A call's first delta has `id`, `type` and `name`; the arguments of all are joined. */
const toolCallDelta = z.object({
  index: z.int(),
  id: z.string().optional(),
  type: z.literal("function").optional(),
  function: z.object({ name: z.string().optional(), arguments: z.string() }),
});

export const usage = z.object({
  prompt_tokens: z.int(),
  completion_tokens: z.int().describe("Tokens that were computed, one that ended the answer included"),
  total_tokens: z.int(),
  prompt_cache_hit_tokens: z.int().describe("Of the prompt, found in the cache"),
  prompt_cache_miss_tokens: z.int(),
  prompt_tokens_details: z.object({ cached_tokens: z.int() }),
  completion_tokens_details: z.object({ reasoning_tokens: z.int() }),
});

const LOGPROB =
  "Natural logarithm of the probability that the model itself gave the token: before temperature, penalties, bias and filters; at least -9999";

const chatLogprob = z.object({ token: z.string(), logprob: z.number().describe(LOGPROB), bytes: z.array(z.int()).readonly() });
const chatTokenLogprob = chatLogprob.extend({ top_logprobs: z.array(chatLogprob).readonly() });
const chatLogprobs = z.object({
  content: z.array(chatTokenLogprob).readonly(),
  reasoning_content: z.array(chatTokenLogprob).readonly().optional(),
});

const chatHead = { id: z.string(), created: z.int().describe("Unix time, seconds"), model: z.string() };

export const chatCompletion = z.object({
  ...chatHead,
  object: z.literal("chat.completion"),
  choices: z.array(
    z.object({
      index: z.int(),
      message: z.object({
        role: z.literal("assistant"),
        content: z.string().nullable().describe("null where the answer is nothing but calls"),
        reasoning_content: z.string().optional(),
        tool_calls: z.array(toolCall).optional(),
      }),
      logprobs: chatLogprobs.nullable(),
      finish_reason: finishReason,
    }),
  ),
  usage,
});

export const chatCompletionChunk = z.object({
  ...chatHead,
  object: z.literal("chat.completion.chunk"),
  choices: z.array(
    z.object({
      index: z.int(),
      delta: z.object({
        role: z.literal("assistant").optional(),
        content: z.string().optional(),
        reasoning_content: z.string().optional(),
        tool_calls: z.array(toolCallDelta).optional(),
      }),
      logprobs: chatLogprobs.nullable(),
      finish_reason: finishReason.nullable(),
    }),
  ),
  usage: usage.nullable().optional(),
});

const completionLogprobs = z.object({
  tokens: z.array(z.string()).readonly(),
  token_logprobs: z.array(z.number().nullable()).readonly().describe(`${LOGPROB}; null of a prompt's first token`),
  top_logprobs: z.array(z.record(z.string(), z.number()).readonly().nullable()).readonly(),
  text_offset: z.array(z.int()).readonly(),
});

export const completion = z.object({
  ...chatHead,
  object: z.literal("text_completion"),
  choices: z.array(
    z.object({
      index: z.int(),
      text: z.string(),
      logprobs: completionLogprobs.nullable(),
      finish_reason: finishReason.nullable().describe("null in all chunks of a stream but a choice's last"),
    }),
  ),
  usage: usage.nullable().optional(),
});

export const model = z.object({
  id: z.string(),
  object: z.literal("model"),
  created: z.int(),
  owned_by: z.string(),
  context_length: z.int().describe("Tokens of prompt and answer together"),
});

export const modelList = z.object({ object: z.literal("list"), data: z.array(model) });

export const health = z.object({ status: z.enum(["ok", "closing"]), running: z.int(), waiting: z.int() });

export const errorBody = z.object({
  error: z.object({ message: z.string(), type: z.string(), param: z.string().nullable(), code: z.string().nullable() }),
});

export type Usage = z.infer<typeof usage>;
export type ChatCompletion = z.infer<typeof chatCompletion>;
export type ChatCompletionChunk = z.infer<typeof chatCompletionChunk>;
export type Completion = z.infer<typeof completion>;
export type ToolCall = z.infer<typeof toolCall>;
export type ToolCallDelta = z.infer<typeof toolCallDelta>;
export type ModelEntry = z.infer<typeof model>;
