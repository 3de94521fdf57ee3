/** What a request becomes, and the shape of its answer; chats. Plain completions are in completion.ts. */
import type { GeneratedToken } from "@shoal/engine";
import { answerMarks } from "@shoal/tokenizer";
import type { AnswerEnd, AnswerWish } from "./answer.ts";
import type { AnswerToken, CallPart } from "./answerText.ts";
import { invalidField } from "./errors.ts";
import { checkGeneration, checkModel, checkPrompt, wishesFor } from "./generation.ts";
import { chatLogprobs } from "./logprobs.ts";
import type { ApiOptions } from "./options.ts";
import { contentGrammar } from "./output.ts";
import { chatPrompt } from "./prompt.ts";
import type { ChatCompletion, ChatCompletionChunk, ToolCall, ToolCallDelta, Usage } from "./schemas/answers.ts";
import { chatRequest } from "./schemas/chat.ts";
import { callConstraint, planTools } from "./tools.ts";
import { validate } from "./validate.ts";

/** One answer as a whole, or what of it has come since the last time. */
export interface ChoiceState {
  readonly index: number;
  readonly reasoning: string;
  readonly content: string;
  readonly calls: readonly CallPart[];
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
  /** What of it says what the answer must be. */
  readonly constraintField: string;
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
  if (fields.top_logprobs !== undefined && fields.logprobs !== true)
    throw invalidField("top_logprobs", "Cannot use 'top_logprobs': 'logprobs' is not true, expected both");
  const tools = planTools(fields, template.toolFormat);
  const content = contentGrammar(fields);
  const { ids, reasoning } = chatPrompt(fields, template, tokenizer, tools.shown);
  if (content && fields.messages.at(-1)?.prefix === true && fields.messages.at(-1)?.content)
    throw invalidField(content.field, `Cannot use '${content.field}' where the last message begins the answer, expected one of them`);
  const before = reasoning === "open" ? [CLOSE_REASONING] : [];
  const constraint = tools.calls
    ? callConstraint(tools.calls, content?.grammar, before)
    : content && { grammar: content.grammar, after: before };
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
    constraintField: tools.calls?.required === true || !content ? "tools" : content.field,
    prompts: [ids],
    wishes: wishesFor(fields, model, {
      promptIds: ids,
      maxNewTokens,
      topLogprobs,
      reasoning,
      tools: tools.read,
      constraint,
      marks: marksOf(tokenizer),
    }),
    stream: fields.stream === true,
    includeUsage,
    opening: () =>
      Array.from({ length: fields.n ?? 1 }, (_, index) =>
        chunkOf([{ index, delta: { role: "assistant", content: "" }, logprobs: null, finish_reason: null }]),
      ),
    chunk: (choices, usage) =>
      chunkOf(
        choices.map(({ index, reasoning, content, calls, tokens, end }) => ({
          index,
          delta: {
            ...(content !== "" && { content }),
            ...(reasoning !== "" && { reasoning_content: reasoning }),
            ...(calls.length > 0 && { tool_calls: calls.map(callDelta) }),
          },
          logprobs: tokens.length === 0 ? null : logprobs(tokens),
          finish_reason: end?.finishReason ?? null,
        })),
        usage,
      ),
    whole: (choices, usage): ChatCompletion => ({
      ...head,
      object: "chat.completion",
      choices: choices.map(({ index, reasoning, content, calls, tokens, end }) => ({
        index,
        message: {
          role: "assistant",
          content: content === "" && calls.length > 0 ? null : content,
          ...(reasoning !== "" && { reasoning_content: reasoning }),
          ...(calls.length > 0 && { tool_calls: wholeCalls(calls) }),
        },
        logprobs: logprobs(tokens),
        finish_reason: end?.finishReason ?? "stop",
      })),
      usage,
    }),
  };
}

const CLOSE_REASONING = "</think>";

/** Tokens that say what the text around them is: some checkpoints flag them as special. */
function marksOf(tokenizer: ApiOptions["tokenizer"]): ReadonlySet<number> {
  return new Set(answerMarks.map((mark) => tokenizer.addedTokenId(mark)).filter((id) => id !== undefined));
}

function callId(): string {
  return `call_${crypto.randomUUID().replaceAll("-", "").slice(0, 24)}`;
}

function callDelta(part: CallPart): ToolCallDelta {
  const { index } = part;
  return part.kind === "call"
    ? { index, id: callId(), type: "function", function: { name: part.name, arguments: "" } }
    : { index, function: { arguments: part.text } };
}

function wholeCalls(parts: readonly CallPart[]): ToolCall[] {
  return parts.flatMap((part): readonly ToolCall[] => {
    if (part.kind !== "call") return [];
    const texts = parts.flatMap((other) => (other.kind === "arguments" && other.index === part.index ? [other.text] : []));
    return [{ id: callId(), type: "function", function: { name: part.name, arguments: texts.join("") } }];
  });
}

/** Unix time, seconds. */
export function now(): number {
  return Math.floor(Date.now() / 1000);
}
