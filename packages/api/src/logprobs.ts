/** Log probabilities as OpenAI gives them: of chats with bytes, of completions as parallel lists. */
import type { GeneratedToken, TokenLogprob } from "@shoal/engine";
import { IncrementalDetokenizer, type TokenBytes } from "@shoal/tokenizer";
import type { AnswerToken } from "./answerText.ts";

export interface ChatLogprob {
  readonly token: string;
  readonly logprob: number;
  /** A token may hold part of a character: its text alone would not tell. */
  readonly bytes: readonly number[];
}

export interface ChatTokenLogprob extends ChatLogprob {
  readonly top_logprobs: readonly ChatLogprob[];
}

export interface ChatLogprobs {
  readonly content: readonly ChatTokenLogprob[];
  /** DeepSeek's: tokens of the reasoning, the tags around it included. Only where there are some. */
  readonly reasoning_content?: readonly ChatTokenLogprob[];
}

export interface CompletionLogprobs {
  readonly tokens: readonly string[];
  /** null of a prompt's first token: nothing is before it. */
  readonly token_logprobs: readonly (number | null)[];
  readonly top_logprobs: readonly (Readonly<Record<string, number>> | null)[];
  /** Where each token begins in the answer, UTF-16 units. */
  readonly text_offset: readonly number[];
}

/** Probabilities that a float cannot hold come as -Infinity, which JSON cannot hold: this is what OpenAI writes instead. */
const LEAST_LOGPROB = -9999;

function finite(logprob: number | undefined): number {
  return logprob === undefined || !(logprob > LEAST_LOGPROB) ? LEAST_LOGPROB : logprob;
}

function tokenText(id: number, tokenizer: TokenBytes): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(tokenizer.tokenBytes(id));
}

function chatLogprob(id: number, logprob: number | undefined, tokenizer: TokenBytes): ChatLogprob {
  return { token: tokenText(id, tokenizer), logprob: finite(logprob), bytes: [...tokenizer.tokenBytes(id)] };
}

export function chatLogprobs(tokens: readonly AnswerToken[], tokenizer: TokenBytes): ChatLogprobs {
  const entry = ({ id, logprob, topLogprobs = [] }: AnswerToken): ChatTokenLogprob => ({
    ...chatLogprob(id, logprob, tokenizer),
    top_logprobs: topLogprobs.map((top: TokenLogprob) => chatLogprob(top.id, top.logprob, tokenizer)),
  });
  const content = tokens.filter(({ kind }) => kind === "content").map(entry);
  const reasoning = tokens.filter(({ kind }) => kind === "reasoning").map(entry);
  return { content, ...(reasoning.length > 0 && { reasoning_content: reasoning }) };
}

/** A prompt as the answer repeats it: without the tokens that no text shows. */
export interface Echo {
  readonly text: string;
  /** Where each of its tokens begins, UTF-16 units. */
  readonly offsets: readonly number[];
}

export function echoOf(promptIds: readonly number[], tokenizer: TokenBytes): Echo {
  const detokenizer = new IncrementalDetokenizer(tokenizer, { skipSpecialTokens: true });
  let text = "";
  const offsets = promptIds.map((id) => {
    const start = text.length;
    text += detokenizer.push(id);
    return start;
  });
  return { text: text + detokenizer.finish(), offsets };
}

/** @param tokens the prompt's from the second on, with their log probabilities */
export function promptLogprobs(
  [first = 0]: readonly number[],
  tokens: readonly GeneratedToken[],
  { offsets }: Echo,
  tokenizer: TokenBytes,
): CompletionLogprobs {
  return {
    tokens: [first, ...tokens.map(({ id }) => id)].map((id) => tokenText(id, tokenizer)),
    token_logprobs: [null, ...tokens.map(({ logprob }) => finite(logprob))],
    top_logprobs: [null, ...tokens.map((token) => topOf(token, tokenizer))],
    text_offset: offsets,
  };
}

export function joined(first: CompletionLogprobs, second: CompletionLogprobs): CompletionLogprobs {
  return {
    tokens: [...first.tokens, ...second.tokens],
    token_logprobs: [...first.token_logprobs, ...second.token_logprobs],
    top_logprobs: [...first.top_logprobs, ...second.top_logprobs],
    text_offset: [...first.text_offset, ...second.text_offset],
  };
}

function topOf({ topLogprobs = [] }: GeneratedToken, tokenizer: TokenBytes): Readonly<Record<string, number>> {
  return Object.fromEntries(topLogprobs.map(({ id, logprob }) => [tokenText(id, tokenizer), finite(logprob)]));
}

/** @param offset UTF-16 units of the answer before these tokens */
export function completionLogprobs(tokens: readonly AnswerToken[], tokenizer: TokenBytes, offset: number): CompletionLogprobs {
  const texts = tokens.map(({ id }) => tokenText(id, tokenizer));
  let at = offset;
  return {
    tokens: texts,
    token_logprobs: tokens.map(({ logprob }) => finite(logprob)),
    top_logprobs: tokens.map((token) => topOf(token, tokenizer)),
    text_offset: texts.map((text) => {
      const start = at;
      at += text.length;
      return start;
    }),
  };
}
