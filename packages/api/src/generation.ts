/** From the fields of a request to what the engine is asked, one wish a choice. */
import { type RequestSampling, samplingOf } from "@shoal/engine";
import type { AnswerWish } from "./answer.ts";
import { invalidField } from "./errors.ts";
import type { ServedModel } from "./options.ts";
import type { GenerationFields } from "./schemas/common.ts";
import { shown } from "./validate.ts";

const SEEDS = 64;

/** @throws ApiError 400 with OpenAI's code for it */
export function checkModel(asked: string | undefined, { id }: ServedModel): void {
  if (asked === undefined || asked === id) return;
  throw invalidField("model", `Cannot use 'model': ${shown(asked)} is not served here, expected '${id}'`, "model_not_found");
}

export function stopsOf({ stop }: GenerationFields): readonly string[] {
  if (stop === undefined) return [];
  return typeof stop === "string" ? [stop] : stop;
}

/** @throws ApiError 400 for fields that are right by themselves but not together, or not for this model */
export function checkGeneration(fields: GenerationFields, { vocabSize }: ServedModel): void {
  if (fields.stream_options && fields.stream !== true)
    throw invalidField("stream_options", "Cannot use 'stream_options': 'stream' is not true, expected it only with a stream");
  const beyond = Object.keys(fields.logit_bias ?? {}).find((id) => Number(id) >= vocabSize);
  if (beyond !== undefined)
    throw invalidField(
      `logit_bias.${beyond}`,
      `Cannot use 'logit_bias.${beyond}': there is no such token, expected ids from 0 to ${vocabSize - 1}`,
    );
  const stop = fields.stop_token_ids?.findIndex((id) => id >= vocabSize) ?? -1;
  if (stop >= 0)
    throw invalidField(
      `stop_token_ids[${stop}]`,
      `Cannot use 'stop_token_ids[${stop}]': it is ${fields.stop_token_ids?.[stop]}, expected ids from 0 to ${vocabSize - 1}`,
    );
}

/** @param choice the sampling of choice 0 has the request's seed, the others those that follow */
function samplingFor(fields: GenerationFields, model: ServedModel, seed: bigint, choice: number): RequestSampling {
  const { temperature, top_p: topP, top_k: topK, min_p: minP, logit_bias: bias } = fields;
  const wish = {
    temperature,
    topP,
    topK: topK === -1 ? 0 : topK,
    minP,
    seed: BigInt.asUintN(SEEDS, seed + BigInt(choice)),
  };
  return {
    ...samplingOf(wish, model.recommended),
    ...(fields.frequency_penalty !== undefined && { frequencyPenalty: fields.frequency_penalty }),
    ...(fields.presence_penalty !== undefined && { presencePenalty: fields.presence_penalty }),
    ...(fields.repetition_penalty !== undefined && { repetitionPenalty: fields.repetition_penalty }),
    ...(bias && Object.keys(bias).length > 0 && { logitBias: new Map(Object.entries(bias).map(([id, value]) => [Number(id), value])) }),
  };
}

export interface PromptWish {
  readonly promptIds: readonly number[];
  readonly maxNewTokens: number;
  readonly topLogprobs: number | undefined;
  readonly promptLogprobs?: boolean;
  readonly reasoning: AnswerWish["reasoning"];
  readonly tools?: AnswerWish["tools"];
  readonly constraint?: AnswerWish["constraint"] | undefined;
  readonly marks?: AnswerWish["marks"];
}

/** `n` wishes for one prompt. */
export function wishesFor(
  fields: GenerationFields,
  model: ServedModel,
  { promptIds, maxNewTokens, topLogprobs, promptLogprobs = false, reasoning, tools, constraint, marks }: PromptWish,
): readonly AnswerWish[] {
  const seed = fields.seed === undefined ? (crypto.getRandomValues(new BigUint64Array(1))[0] ?? 0n) : BigInt(fields.seed);
  const stopTokenIds = [...new Set([...model.stopTokenIds, ...(fields.stop_token_ids ?? [])])];
  return Array.from({ length: fields.n ?? 1 }, (_, choice) => ({
    promptIds,
    maxNewTokens,
    sampling: samplingFor(fields, model, seed, choice),
    stopTokenIds,
    stops: stopsOf(fields),
    reasoning,
    ...(tools && { tools }),
    ...(marks && { marks }),
    ...(constraint && { constraint }),
    ...(topLogprobs !== undefined && { topLogprobs }),
    ...(promptLogprobs && { promptLogprobs }),
  }));
}

/** @throws ApiError 400 with OpenAI's code for it */
export function checkPrompt(promptIds: readonly number[], contextTokens: number, field: string): void {
  if (promptIds.length === 0) throw invalidField(field, `Cannot use '${field}': it has no tokens, expected at least one`);
  if (promptIds.length > contextTokens)
    throw invalidField(
      field,
      `Cannot use '${field}': it has ${promptIds.length} tokens, expected at most ${contextTokens}`,
      "context_length_exceeded",
    );
}
