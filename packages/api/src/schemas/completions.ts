/** POST /v1/completions: text goes on where a prompt ends, without a template. */
import { z } from "zod";
import { FIELD_LIMITS } from "../limits.ts";
import { generationFields, ignoredFields, tokenId } from "./common.ts";

const { choices, textLength, promptTokens, topLogprobs } = FIELD_LIMITS;

const text = z.string().max(textLength);
const ids = z.array(tokenId).max(promptTokens);

export const completionRequest = z.strictObject({
  prompt: z
    .union([text, z.array(text).min(1).max(choices), ids, z.array(ids).min(1).max(choices)])
    .describe("A text, token ids, or several of either"),
  ...generationFields,
  echo: z.boolean().optional().describe("The answer begins with the prompt"),
  logprobs: z.int().min(0).max(topLogprobs).optional().describe("Likeliest tokens to report; not with `echo`"),
  suffix: z.string().max(textLength).optional().describe("Not supported: only an empty one"),
  best_of: z.int().min(1).max(choices).optional().describe("Only as many as `n`"),
  ...ignoredFields,
});

export type CompletionRequest = z.infer<typeof completionRequest>;
