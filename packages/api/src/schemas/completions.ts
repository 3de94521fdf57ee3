/** POST /v1/completions: text goes on where a prompt ends, without a template. */
import { z } from "zod";
import { FIELD_LIMITS } from "../limits.ts";
import { generationFields, ignoredFields, tokenId } from "./common.ts";

const { choices, textLength, maxTokens, promptTokens, topLogprobs } = FIELD_LIMITS;

const text = z.string().max(textLength);
const ids = z.array(tokenId).max(promptTokens);

export const completionRequest = z.strictObject({
  prompt: z
    .union([text, z.array(text).min(1).max(choices), ids, z.array(ids).min(1).max(choices)])
    .describe("A text, token ids, or several of either"),
  ...generationFields,
  max_tokens: z
    .int()
    .min(0)
    .max(maxTokens)
    .optional()
    .describe("The longest answer, in tokens, 16 by default; the context may end it before. 0 only with `echo`: nothing but the prompt"),
  echo: z.boolean().optional().describe("The answer begins with the prompt; with `logprobs` its tokens have theirs"),
  logprobs: z.int().min(0).max(topLogprobs).optional().describe("Likeliest tokens to report with every token"),
  suffix: text
    .optional()
    .describe("The answer fits between the prompt and this, for models that were trained to fill in the middle; not with `echo`"),
  best_of: z.int().min(1).max(choices).optional().describe("Only as many as `n`"),
  ...ignoredFields,
});

export type CompletionRequest = z.infer<typeof completionRequest>;
