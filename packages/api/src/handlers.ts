/** The two ways to ask for text: what each request becomes, and the shape of its answer. */
import type { AnswerEnd, AnswerWish } from "./answer.ts";
import type { AnswerToken } from "./answerText.ts";
import { invalidField } from "./errors.ts";
import { checkGeneration, checkModel, checkPrompt, wishesFor } from "./generation.ts";
import { FIELD_LIMITS } from "./limits.ts";
import { chatLogprobs, completionLogprobs } from "./logprobs.ts";
import type { ApiOptions } from "./options.ts";
import { chatPrompt } from "./prompt.ts";
import type { ChatCompletion, ChatCompletionChunk, Completion, Usage } from "./schemas/answers.ts";
import { chatRequest } from "./schemas/chat.ts";
import { completionRequest } from "./schemas/completions.ts";
import { validate } from "./validate.ts";

/** One answer as a whole, or what of it has come since the last time. */
export interface ChoiceState {
  readonly index: number;
  readonly reasoning: string;
  readonly content: string;
  readonly tokens: readonly AnswerToken[];
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

/** OpenAI's. */
const DEFAULT_COMPLETION_TOKENS = 16;

export function completionJob(body: unknown, { engine, tokenizer, model }: ApiOptions): Job {
  const fields = validate(completionRequest, body);
  checkModel(fields.model, model);
  checkGeneration(fields, model);
  if (fields.suffix !== undefined && fields.suffix !== "")
    throw invalidField("suffix", "Cannot use 'suffix': it is not supported, expected none");
  if (fields.best_of !== undefined && fields.best_of !== (fields.n ?? 1))
    throw invalidField("best_of", `Cannot use 'best_of': it is ${fields.best_of}, expected as many as 'n'`);
  if (fields.echo === true && fields.logprobs !== undefined)
    throw invalidField("logprobs", "Cannot use 'logprobs' with 'echo': prompts have no log probabilities here, expected one of them");
  const n = fields.n ?? 1;
  const prompts = promptsOf(fields.prompt).map((prompt) =>
    typeof prompt === "string" ? tokenizer.encode(prompt, { addSpecialTokens: true }) : prompt,
  );
  if (prompts.length * n > FIELD_LIMITS.choices)
    throw invalidField(
      "n",
      `Cannot use 'n': ${prompts.length} prompts make ${prompts.length * n} answers, expected at most ${FIELD_LIMITS.choices}`,
    );
  const { contextTokens } = engine.status();
  for (const ids of prompts) {
    checkPrompt(ids, contextTokens, "prompt");
    const beyond = ids.find((id) => id >= model.vocabSize);
    if (beyond !== undefined)
      throw invalidField("prompt", `Cannot use 'prompt': it has the token ${beyond}, expected ids from 0 to ${model.vocabSize - 1}`);
  }
  const maxNewTokens = fields.max_tokens ?? DEFAULT_COMPLETION_TOKENS;
  const wishes = prompts.flatMap((promptIds) =>
    wishesFor(fields, model, { promptIds, maxNewTokens, topLogprobs: fields.logprobs, reasoning: "none" }),
  );
  const echoes = prompts.map((ids) => (fields.echo === true ? tokenizer.decode(ids, { skipSpecialTokens: true }) : ""));
  const head = { id: `cmpl-${crypto.randomUUID()}`, created: now(), model: model.id, object: "text_completion" as const };
  const includeUsage = fields.stream_options?.include_usage === true;
  const choice = ({ index, content, tokens, end, offset }: ChoiceState, text = content): Completion["choices"][number] => ({
    index,
    text,
    logprobs: fields.logprobs === undefined ? null : completionLogprobs(tokens, tokenizer, offset),
    finish_reason: end?.finishReason ?? null,
  });
  const echoOf = (index: number): string => echoes[Math.floor(index / n)] ?? "";
  return {
    body: fields,
    textField: "prompt",
    prompts,
    wishes,
    stream: fields.stream === true,
    includeUsage,
    opening: () =>
      fields.echo === true
        ? wishes.map((_, index) => ({ ...head, choices: [{ index, text: echoOf(index), logprobs: null, finish_reason: null }] }))
        : [],
    chunk: (choices, usage): Completion => ({
      ...head,
      choices: choices.map((state) => choice(state)),
      ...(includeUsage && { usage: usage ?? null }),
    }),
    whole: (choices, usage): Completion => ({
      ...head,
      choices: choices.map((state) => choice(state, echoOf(state.index) + state.content)),
      usage,
    }),
  };
}

function promptsOf(
  prompt: string | readonly string[] | readonly number[] | readonly (readonly number[])[],
): readonly (string | readonly number[])[] {
  if (typeof prompt === "string") return [prompt];
  return typeof prompt[0] === "number" || prompt.length === 0
    ? [prompt as readonly number[]]
    : (prompt as readonly (string | readonly number[])[]);
}

function now(): number {
  return Math.floor(Date.now() / 1000);
}
