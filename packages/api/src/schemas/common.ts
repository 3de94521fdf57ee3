/** What chat and plain completions have in common. Names and ranges are OpenAI's and DeepSeek's; null at the top level counts as absent. */
import { z } from "zod";
import { FIELD_LIMITS } from "../limits.ts";

const {
  stops,
  stopLength,
  stopTokens,
  maxTokens,
  logitBias,
  nameLength,
  choices,
  schemaLength,
  patternLength,
  grammarLength,
  alternatives,
} = FIELD_LIMITS;

export const modelName = z.string().min(1).max(nameLength);

const stop = z.string().min(1).max(stopLength);

export const tokenId = z
  .int()
  .min(0)
  .max(2 ** 31 - 1);

export const jsonSchema = z
  .record(z.string(), z.unknown())
  .refine((schema) => JSON.stringify(schema).length <= schemaLength, { error: `a JSON Schema of at most ${schemaLength} characters` });

/** Of these one. */
const structuredOutputs = z
  .strictObject({
    json: z
      .union([jsonSchema, z.string().max(schemaLength)])
      .optional()
      .describe("A JSON Schema, or its text"),
    regex: z.string().min(1).max(patternLength).optional(),
    choice: z.array(z.string().min(1).max(patternLength)).min(1).max(alternatives).optional().describe("One of these texts"),
    grammar: z.string().min(1).max(grammarLength).optional().describe("EBNF with a rule named `root`, as xgrammar reads it"),
  })
  .refine((kinds) => Object.keys(kinds).length === 1, { error: "one of 'json', 'regex', 'choice' and 'grammar'" });

/** How tokens are chosen, and where an answer ends. */
export const generationFields = {
  model: modelName.optional().describe("As /v1/models names it; without it the one that is served"),
  max_tokens: z.int().min(1).max(maxTokens).optional().describe("The longest answer, in tokens; the context may end it before"),
  temperature: z.number().min(0).max(2).optional().describe("0: always the likeliest token; without it what the model recommends, else 0"),
  top_p: z.number().gt(0).max(1).optional(),
  top_k: z.int().min(-1).max(maxTokens).optional().describe("0 and -1: all tokens"),
  min_p: z.number().min(0).max(1).optional(),
  frequency_penalty: z.number().min(-2).max(2).optional(),
  presence_penalty: z.number().min(-2).max(2).optional(),
  repetition_penalty: z.number().gt(0).max(10).optional().describe("Divides logits of tokens that occurred; 1: none"),
  logit_bias: z
    .record(z.string().regex(/^\d{1,9}$/, "a token id"), z.number().min(-100).max(100))
    .refine((bias) => Object.keys(bias).length <= logitBias, { error: `an object of at most ${logitBias} fields` })
    .optional()
    .describe("Added to logits, by token id"),
  seed: z.int().optional().describe("The same seed gives the same answer; further choices take the seeds that follow"),
  stop: z
    .union([stop, z.array(stop).max(stops)])
    .optional()
    .describe("The answer ends before the first of these strings"),
  stop_token_ids: z.array(tokenId).max(stopTokens).optional().describe("The answer ends before the first of these tokens"),
  n: z.int().min(1).max(choices).optional().describe("Answers to the prompt"),
  structured_outputs: structuredOutputs.optional().describe("What the answer must be; named as vLLM names it"),
  stream: z.boolean().optional(),
  stream_options: z
    .strictObject({ include_usage: z.boolean().optional().describe("A last chunk has `usage` and no choices") })
    .optional()
    .describe("Only with `stream`"),
};

/** Accepted, since clients send them, and without effect here. */
export const ignoredFields = {
  user: z.string().max(nameLength).optional().describe("Without effect"),
  store: z.boolean().optional().describe("Without effect: nothing is stored"),
  metadata: z.record(z.string(), z.unknown()).optional().describe("Without effect"),
  service_tier: z.string().max(nameLength).optional().describe("Without effect"),
  safety_identifier: z.string().max(nameLength).optional().describe("Without effect"),
  prompt_cache_key: z.string().max(nameLength).optional().describe("Without effect: every prompt may find its beginning in the cache"),
};

export type GenerationFields = z.infer<z.ZodObject<typeof generationFields>>;
