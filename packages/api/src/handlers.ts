/** What a request becomes, and the shape of its answer; chats. Plain completions are in completion.ts. */
import type { GeneratedToken } from "@shoal/engine";
import type { AnswerEnd, AnswerWish } from "./answer.ts";
import type { AnswerToken } from "./answerText.ts";
import { invalidField } from "./errors.ts";
import { checkGeneration, checkModel, checkPrompt, wishesFor } from "./generation.ts";
import { chatLogprobs } from "./logprobs.ts";
import type { ApiOptions } from "./options.ts";
import { chatPrompt } from "./prompt.ts";
import type { ChatCompletion, ChatCompletionChunk, Usage } from "./schemas/answers.ts";
import { chatRequest } from "./schemas/chat.ts";
import { validate } from "./validate.ts";

/** One answer as a whole, or what of it has come since the last time. */
export interface ChoiceState {
  readonly index: number;
  readonly reasoning: string;
  readonly content: string;
  readonly tokens: readonly AnswerToken[];
  /** Of the prompt, from its second token on, where their log probabilities are wanted and known. */
  readonly prompt: readonly GeneratedToken[] | undefined;
  readonly end: AnswerEnd | undefined;
  /** UTF-16 units of content before this. */
  readonly offset: number;
}

export interface Job {
  readonly body: unknown;
  /** What of the request held the text. */
  readonly textField: string;
  readonly prompts: readonly (readonly number[])[];
  readonly wishes: readonly AnswerWish[];
  readonly stream: boolean;
  readonly includeUsage: boolean;
  /** Chunks that come before anything was computed. */
  readonly opening: () => readonly unknown[];
  readonly chunk: (choices: readonly ChoiceState[], usage?: Usage | null) => unknown;
  readonly whole: (choices: readonly ChoiceState[], usage: Usage) => unknown;
}

export function chatJob(body: unknown, { engine, template, tokenizer, model }: ApiOptions): Job {
  const fields = validate(chatRequest, body);
  checkModel(fields.model, model);
  checkGeneration(fields, model);
  if (fields.response_format && fields.response_format.type !== "text")
    throw invalidField(
      "response_format.type",
      `Cannot use '${fields.response_format.type}' answers: they are not supported, expected 'text'`,
    );
  if (fields.tools && fields.tools.length > 0) throw invalidField("tools", "Cannot use 'tools': they are not supported, expected none");
  if (fields.tool_choice !== undefined && fields.tool_choice !== "none" && fields.tool_choice !== "auto")
    throw invalidField("tool_choice", "Cannot use 'tool_choice': tools are not supported, expected 'none'");
  if (fields.top_logprobs !== undefined && fields.logprobs !== true)
    throw invalidField("top_logprobs", "Cannot use 'top_logprobs': 'logprobs' is not true, expected both");
  const { ids, reasoning } = chatPrompt(fields, template, tokenizer);
  const { contextTokens } = engine.status();
  checkPrompt(ids, contextTokens, "messages");
  const maxNewTokens = fields.max_completion_tokens ?? fields.max_tokens ?? contextTokens;
  const topLogprobs = fields.logprobs === true ? (fields.top_logprobs ?? 0) : undefined;
  const logprobs = (tokens: readonly AnswerToken[]) => (topLogprobs === undefined ? null : chatLogprobs(tokens, tokenizer));
  const head = { id: `chatcmpl-${crypto.randomUUID()}`, created: now(), model: model.id };
  const includeUsage = fields.stream_options?.include_usage === true;
  const chunkOf = (choices: ChatCompletionChunk["choices"], usage?: Usage | null): ChatCompletionChunk => ({
    ...head,
    object: "chat.completion.chunk",
    choices,
    ...(includeUsage && { usage: usage ?? null }),
  });
  return {
    body: fields,
    textField: "messages",
    prompts: [ids],
    wishes: wishesFor(fields, model, { promptIds: ids, maxNewTokens, topLogprobs, reasoning }),
    stream: fields.stream === true,
    includeUsage,
    opening: () =>
      Array.from({ length: fields.n ?? 1 }, (_, index) =>
        chunkOf([{ index, delta: { role: "assistant", content: "" }, logprobs: null, finish_reason: null }]),
      ),
    chunk: (choices, usage) =>
      chunkOf(
        choices.map(({ index, reasoning, content, tokens, end }) => ({
          index,
          delta: { ...(content !== "" && { content }), ...(reasoning !== "" && { reasoning_content: reasoning }) },
          logprobs: tokens.length === 0 ? null : logprobs(tokens),
          finish_reason: end?.finishReason ?? null,
        })),
        usage,
      ),
    whole: (choices, usage): ChatCompletion => ({
      ...head,
      object: "chat.completion",
      choices: choices.map(({ index, reasoning, content, tokens, end }) => ({
        index,
        message: { role: "assistant", content, ...(reasoning !== "" && { reasoning_content: reasoning }) },
        logprobs: logprobs(tokens),
        finish_reason: end?.finishReason ?? "stop",
      })),
      usage,
    }),
  };
}

/** Unix time, seconds. */
export function now(): number {
  return Math.floor(Date.now() / 1000);
}
