/** Prompts that ask for what is between two texts, for models that were trained on such: DeepSeek's Coder models, V2 and V3. */
import type { Tokenizer } from "./tokenizer.ts";

const BEGIN = "<｜fim▁begin｜>";
const HOLE = "<｜fim▁hole｜>";
const END = "<｜fim▁end｜>";

/**
 * Prefix, suffix, and the model goes on with the middle (DeepSeek-V3, arXiv 2412.19437, section 4.1: PSM). Neither text can steer the model by control tokens written out in it.
 * @param before a text, or its ids
 * @returns undefined where the vocabulary has no tokens for it
 */
export function fillInMiddle(tokenizer: Tokenizer, before: string | readonly number[], after: string): readonly number[] | undefined {
  const [begin, hole, end] = [BEGIN, HOLE, END].map((token) => tokenizer.addedTokenId(token));
  if (begin === undefined || hole === undefined || end === undefined) return undefined;
  const plain = (text: string): readonly number[] => tokenizer.encode(text, { allowControlTokens: false });
  const prefix = typeof before === "string" ? plain(before) : before;
  const { bosTokenId } = tokenizer;
  return [...(bosTokenId === undefined ? [] : [bosTokenId]), begin, ...prefix, hole, ...plain(after), end];
}
