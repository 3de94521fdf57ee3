/** One answer: a request to the engine, and the text that comes of it. */
import type { EngineRequest, GeneratedToken, InferenceEngine, RunningRequest } from "@shoal/engine";
import type { ReasoningStart, TokenBytes, ToolCallOptions } from "@shoal/tokenizer";
import { type AnswerPart, AnswerText, type CallPart } from "./answerText.ts";

export interface AnswerWish extends Omit<EngineRequest, "signal" | "maxNewTokens"> {
  /** 0: only the prompt is wanted. */
  readonly maxNewTokens: number;
  readonly stops: readonly string[];
  readonly reasoning: ReasoningStart;
  readonly tools?: ToolCallOptions | undefined;
  readonly marks?: ReadonlySet<number> | undefined;
}

/** `tool_calls`: as `stop`, after one call or more. */
export type FinishReason = "stop" | "length" | "tool_calls";

export interface AnswerUsage {
  readonly promptTokens: number;
  /** Of the prompt, found in the cache. */
  readonly cachedTokens: number;
  readonly completionTokens: number;
  /** Of the completion. */
  readonly reasoningTokens: number;
}

export interface AnswerEnd {
  readonly finishReason: FinishReason;
  readonly usage: AnswerUsage;
  /** From submission to the first token; undefined where there was none but a stop token. */
  readonly firstTokenMs: number | undefined;
}

export type AnswerEvent =
  /** Of the prompt, from its second token on, where `promptLogprobs` was wished: once, before all else. */
  { readonly prompt: readonly GeneratedToken[] } | { readonly part: AnswerPart } | { readonly end: AnswerEnd };

/**
 * Submits at once, so that a request which the engine refuses is refused before an answer begins. Leaving the iteration, or the signal, ends the request.
 * @throws EngineError and whatever else the engine throws, here and while iterating
 */
export function startAnswer(
  engine: InferenceEngine,
  tokenizer: TokenBytes,
  wish: AnswerWish,
  signal: AbortSignal,
): AsyncGenerator<AnswerEvent, void> {
  const { stops, reasoning, tools, marks, ...request } = wish;
  const begin = performance.now();
  // An engine computes a prompt to choose a token after it.
  const running = engine.submit({ ...request, maxNewTokens: Math.max(1, request.maxNewTokens), signal });
  return read(running, new AnswerText({ tokenizer, stops, reasoning, tools, marks }), request, begin);
}

async function* read(
  running: RunningRequest,
  text: AnswerText,
  { promptIds, maxNewTokens, promptLogprobs }: Pick<AnswerWish, "promptIds" | "maxNewTokens" | "promptLogprobs">,
  begin: number,
): AsyncGenerator<AnswerEvent, void> {
  const promptTokens = promptIds.length;
  const prompt: GeneratedToken[] = [];
  let told = promptLogprobs !== true;
  let tokens = 0;
  let firstTokenMs: number | undefined;
  for await (const batch of running) {
    const own = batch.filter((token) => token.prompt !== true);
    prompt.push(...batch.filter((token) => token.prompt === true));
    if (own.length === 0) continue;
    firstTokenMs ??= performance.now() - begin;
    if (!told) yield { prompt };
    told = true;
    if (maxNewTokens === 0) continue;
    const parts: AnswerPart[] = [];
    for (const token of own) {
      tokens++;
      parts.push(text.push(token));
      if (text.stopped) break;
    }
    yield* nonEmpty(parts);
    // Leaving the loop cancels the request.
    if (text.stopped) break;
  }
  // A stop token is not given out: there may have been no other.
  if (!told) yield { prompt };
  yield* nonEmpty([text.finish()]);
  const { reasoningTokens } = text;
  if (text.stopped) {
    const usage = { promptTokens, cachedTokens: running.cachedTokens ?? 0, completionTokens: tokens, reasoningTokens };
    yield { end: { finishReason: text.calls > 0 ? "tool_calls" : "stop", usage, firstTokenMs } };
    return;
  }
  const { finishReason, usage } = await running.result;
  if (maxNewTokens === 0)
    yield { end: { finishReason: "length", usage: { ...usage, completionTokens: 0, reasoningTokens }, firstTokenMs } };
  else {
    const reason = finishReason === "stop" && text.calls > 0 ? "tool_calls" : finishReason;
    yield { end: { finishReason: reason, usage: { ...usage, reasoningTokens }, firstTokenMs } };
  }
}

/** Parts joined to one event, if there is anything in them. */
function* nonEmpty(parts: readonly AnswerPart[]): Generator<AnswerEvent> {
  const part: AnswerPart = {
    reasoning: parts.map(({ reasoning }) => reasoning).join(""),
    content: parts.map(({ content }) => content).join(""),
    calls: joined(parts.flatMap(({ calls }) => calls)),
    tokens: parts.flatMap(({ tokens }) => tokens),
  };
  if (part.reasoning !== "" || part.content !== "" || part.calls.length > 0 || part.tokens.length > 0) yield { part };
}

/** Arguments that follow one another, as one. */
function joined(parts: readonly CallPart[]): readonly CallPart[] {
  const calls: CallPart[] = [];
  for (const part of parts) {
    const last = calls.at(-1);
    if (part.kind === "arguments" && last?.kind === "arguments" && last.index === part.index)
      calls[calls.length - 1] = { ...last, text: last.text + part.text };
    else calls.push(part);
  }
  return calls;
}
